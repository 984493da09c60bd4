package bulk

// MinMemory is a pointer to minMemory.
var MinMemory = &minMemory
