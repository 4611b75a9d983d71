"""The parts of the web page, one module per tab. `app.py` puts them together."""
