package objstore

import (
	"io"

	"github.com/go-partd/partd"
)

// What a store can: one that loses an ability no longer compiles here.
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
