"""Reports from plain data: numpy arrays and numbers in, one self-contained page out.

Nothing here knows a store, a network or an orchestrator.
"""

from tasks.rendering.content import MethodRow, Panel, ReportSection
from tasks.rendering.figures import panel_png
from tasks.rendering.page import render_report
from tasks.rendering.tables import markdown_table

__all__ = ["MethodRow", "Panel", "ReportSection", "markdown_table", "panel_png", "render_report"]
