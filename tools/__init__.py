"""Tools of the project that are neither service nor measurement."""
