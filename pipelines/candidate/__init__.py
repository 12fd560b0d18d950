"""Whether a version may challenge the champion."""
