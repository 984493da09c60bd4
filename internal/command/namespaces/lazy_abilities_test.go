package namespaces

import "github.com/go-partd/partd"

// The store of a namespace has these abilities, whether it is open or not.
var _ interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Lister
	partd.Opener
	partd.Scanner
	partd.PartScanner
	partd.Popper
	partd.Flusher
	partd.Syncer
	partd.Statter
	partd.Applier
	partd.SessionGuard
	partd.Checker
} = (*lazy)(nil)
