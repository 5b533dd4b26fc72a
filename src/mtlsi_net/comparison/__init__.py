"""Run folders side by side: seeds grouped, multi-task gain, intervals, published results, tables and a page."""
