"""The one import contract that import-linter does not bring: nothing but the standard library."""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class StandardLibraryOnly(Contract):
    """`modules`, packages as a whole, import the standard library and each other, and nothing else.

    Says no to libraries that nobody has thought of yet, which a list of forbidden ones cannot.
    """

    modules = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        pure = {module for root in self.modules for module in (root, *graph.find_descendants(root))}  # type: ignore[attr-defined]
        illegal = [
            (importer, imported)
            for importer in sorted(pure)
            for imported in sorted(graph.find_modules_directly_imported_by(importer) - pure)
            if imported.partition(".")[0] not in sys.stdlib_module_names
        ]
        return ContractCheck(kept=not illegal, metadata={"illegal": illegal})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["illegal"]:
            output.print_error(f"{importer} imports {imported}, not of the standard library", bold=False)
