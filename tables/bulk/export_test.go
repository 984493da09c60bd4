package bulk

// Limits that tests lower.
var (
	MinMemory = &minMemory
	MaxBlock  = &maxBlock
)
