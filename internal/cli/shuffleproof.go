package cli

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
)

// shuffleProof compares a checksum of the records that were read with one of
// what a log store holds, which takes reading all of it.
type shuffleProof struct {
	store  *logstore.Store // nil: no proof by checksum
	before logstore.Ledger
	shown  string // what it found
}

// begin notes what the store holds before.
func (p *shuffleProof) begin(ctx context.Context, wanted bool, store partd.Partd) (err error) {
	log, ok := store.(*logstore.Store)
	if !wanted || !ok {
		return nil
	}
	p.store = log
	p.before, err = log.Verify(ctx)
	return err
}

// compare compares what the store holds with the records appended.
func (p *shuffleProof) compare(ctx context.Context, records int64, sum logstore.Sum128) error {
	if p.store == nil {
		return nil
	}
	found, err := p.store.Verify(ctx)
	if err != nil {
		return err
	}
	want := p.before.Sum
	want.Add(sum)
	if found.Pieces != p.before.Pieces+records || found.Sum != want {
		return fmt.Errorf("the store holds %d records with the checksum %v, but %d with the checksum %v were to be in it",
			found.Pieces, found.Sum, p.before.Pieces+records, want)
	}
	p.shown = fmt.Sprintf("%s records in, as many read back; the sum of the hashes of all keys and records is %v, in and out", humanize.Comma(records), sum)
	return nil
}

// addToSum adds the hash of a key and its record, as a log store's ledger has it.
func (l *entryList) addToSum(e *partd.Entry) {
	l.hashed = binary.AppendUvarint(l.hashed[:0], uint64(len(e.Key)))
	l.hashed = append(l.hashed, e.Key...)
	l.hashed = append(l.hashed, e.Value...)
	l.sum.AddRecord(l.hashed)
}
