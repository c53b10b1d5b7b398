"""A run made public: cards, what may be uploaded, and the upload."""
