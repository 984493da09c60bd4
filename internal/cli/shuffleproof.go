package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/ledger"
)

// shuffleProof compares a checksum of the records that were read with one of
// what a store holds, which takes reading all of it.
type shuffleProof struct {
	store  partd.Checker // nil: no proof by checksum
	before partd.Checked
	shown  string // what it found
}

// begin notes what the store holds before.
func (p *shuffleProof) begin(ctx context.Context, wanted bool, store partd.Partd) (err error) {
	checker, ok := store.(partd.Checker)
	if !wanted || !ok {
		return nil
	}
	p.before, err = checker.Check(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if p.before.Sum != nil {
		p.store = checker
	}
	return err
}

// compare compares what the store holds with the records appended.
func (p *shuffleProof) compare(ctx context.Context, records int64, sum ledger.Sum128) error {
	if p.store == nil {
		return nil
	}
	found, err := p.store.Check(ctx)
	if err != nil {
		return err
	}
	want := *p.before.Sum
	want.Add(sum)
	if found.Records != p.before.Records+records || *found.Sum != want {
		return fmt.Errorf("the store holds %d records with the checksum %v, but should hold %d with the checksum %v",
			found.Records, found.Sum, p.before.Records+records, want)
	}
	p.shown = fmt.Sprintf("%s records in, as many read back; the sum of the hashes of all keys and records is %v, in and out", humanize.Comma(records), sum)
	return nil
}

// addToSum adds the hash of a key and its record, as a [partd.Checker] does.
func (l *entryList) addToSum(e *partd.Entry) {
	l.hashed = binary.AppendUvarint(l.hashed[:0], uint64(len(e.Key)))
	l.hashed = append(l.hashed, e.Key...)
	l.hashed = append(l.hashed, e.Value...)
	l.sum.AddRecord(l.hashed)
}
