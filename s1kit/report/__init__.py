"""Stage `report`: pages and figures of what the analysis found. It decodes nothing and decides nothing."""
