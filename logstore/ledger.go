package logstore

import "github.com/go-partd/partd/internal/engine/segment"

// entryLedger is the checksum of a set of entries.
type entryLedger = segment.Ledger
