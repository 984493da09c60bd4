package objstore

import (
	"io"

	"github.com/go-partd/partd"
)

// Store must implement all these interfaces.
var _ interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Lister
	partd.Opener
	partd.Scanner
	partd.PartScanner
	partd.Statter
	partd.Flusher
	partd.Syncer
	partd.Checker
	partd.MemoryUser
	io.Closer
} = (*Store)(nil)
