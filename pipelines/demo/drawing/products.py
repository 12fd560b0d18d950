"""The sample's products: twelve invented packages in two flavours each.

Two flavours of one package are near twins: same shape and layout, other colours, drawing and words.
"""

from dataclasses import dataclass

from pipelines.demo.drawing.colours import Colour


@dataclass(frozen=True)
class Package:
    """What the two flavours of a package share."""

    kind: str
    brand: str
    category: str
    shape: str
    pattern: str


@dataclass(frozen=True)
class Flavour:
    """What tells one twin from the other."""

    package: Package
    flavour: str
    base: Colour
    accent: Colour
    motif: str
    motif_colour: Colour

    @property
    def product_id(self) -> str:
        """Such as "tea-green-mint"."""
        return f"{self.package.kind} {self.flavour}".lower().replace(" ", "-")

    @property
    def name(self) -> str:
        """Such as "Yama Tea Green Mint"."""
        return f"{self.package.brand} {self.package.kind} {self.flavour}"


def _twins(package: Package, *flavours: tuple[str, Colour, Colour, str, Colour]) -> list[Flavour]:
    return [Flavour(package, *flavour) for flavour in flavours]


PRODUCTS: list[Flavour] = [
    *_twins(
        Package("Cereal", "SUNFIELD", "Breakfast", "box", "rays"),
        ("Honey", (238, 170, 38), (160, 82, 22), "comb", (222, 130, 20)),
        ("Cocoa", (122, 72, 44), (238, 186, 90), "squares", (74, 40, 26)),
    ),
    *_twins(
        Package("Tea", "YAMA", "Hot drinks", "chest", "arcs"),
        ("Green Mint", (70, 140, 96), (222, 214, 130), "leaf", (38, 98, 58)),
        ("Red Berry", (164, 36, 68), (240, 178, 150), "berries", (206, 30, 62)),
    ),
    *_twins(
        Package("Juice", "ORTO", "Drinks", "carton", "waves"),
        ("Orange", (240, 138, 30), (58, 120, 62), "citrus", (244, 150, 32)),
        ("Apple", (132, 178, 52), (176, 40, 44), "round", (196, 44, 46)),
    ),
    *_twins(
        Package("Soda", "FIZZO", "Drinks", "can", "dots"),
        ("Lemon", (236, 208, 40), (40, 112, 96), "citrus", (240, 218, 60)),
        ("Cherry", (190, 26, 56), (244, 176, 190), "cherries", (150, 8, 34)),
    ),
    *_twins(
        Package("Soup", "NONNA", "Pantry", "tin", "bands"),
        ("Tomato", (196, 48, 34), (236, 196, 110), "round", (214, 52, 36)),
        ("Garden Pea", (60, 118, 60), (224, 206, 110), "peas", (112, 178, 66)),
    ),
    *_twins(
        Package("Jam", "OLD MILL", "Breakfast", "jar", "gingham"),
        ("Strawberry", (182, 24, 40), (206, 62, 74), "strawberry", (206, 32, 44)),
        ("Apricot", (226, 130, 32), (232, 156, 70), "round", (240, 156, 60)),
    ),
    *_twins(
        Package("Nut Butter", "HOLT", "Pantry", "tub", "diagonal"),
        ("Peanut", (198, 142, 74), (34, 86, 140), "peanut", (206, 156, 88)),
        ("Hazelnut", (106, 64, 38), (204, 88, 38), "beans", (150, 92, 50)),
    ),
    *_twins(
        Package("Crisps", "KRAK", "Snacks", "pillow", "burst"),
        ("Paprika", (200, 44, 32), (246, 190, 52), "chilli", (214, 36, 30)),
        ("Sea Salt", (40, 104, 170), (164, 214, 232), "crystals", (206, 228, 238)),
    ),
    *_twins(
        Package("Coffee", "ALTURA", "Hot drinks", "pouch", "peaks"),
        ("Dark Roast", (52, 42, 46), (200, 116, 44), "beans", (96, 56, 32)),
        ("Mild Roast", (150, 108, 74), (98, 156, 146), "beans", (176, 116, 66)),
    ),
    *_twins(
        Package("Chocolate", "VELTA", "Snacks", "bar", "stripe"),
        ("Mint", (40, 132, 124), (214, 196, 116), "leaf", (78, 178, 104)),
        ("Orange", (96, 46, 92), (240, 146, 44), "citrus", (242, 148, 36)),
    ),
    *_twins(
        Package("Yoghurt", "ALMA", "Breakfast", "cup", "hills"),
        ("Blueberry", (98, 110, 186), (206, 206, 236), "berries", (52, 62, 140)),
        ("Peach", (240, 164, 116), (238, 216, 176), "round", (238, 124, 84)),
    ),
    *_twins(
        Package("Shampoo", "SILVA", "Care", "bottle", "frame"),
        ("Lavender", (146, 112, 182), (222, 206, 234), "sprig", (120, 74, 168)),
        ("Chamomile", (212, 180, 84), (98, 130, 74), "flower", (244, 226, 170)),
    ),
]
