package objstore

import (
	"context"
	"errors"
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/segment"
)

// Check reads the log and all committed segments, and verifies every checksum and
// every ledger; see [partd.Checker].
func (s *Store) Check(ctx context.Context) (partd.Checked, error) {
	found := partd.Checked{Sum: new(ledger.Sum128)}
	if _, err := s.current(ctx); err != nil && !errors.As(err, new(*partd.CorruptError)) {
		return found, &partd.Error{Op: "verify", Err: err}
	}
	// From the beginning, not from where this store has come to.
	log := &catalog{store: s, mu: make(turn, 1), seqs: map[writerID]uint64{}}
	v, err := log.refresh(ctx)
	errs := []error{err}
	if err != nil {
		v = view{segments: log.segments, drops: log.drops}
	}
	for _, g := range v.segments {
		err := s.retry(ctx, func(ctx context.Context) error { return s.checkSegment(ctx, g) })
		err = s.explain(ctx, v, g, err)
		if err != nil && !errors.As(err, new(*partd.CorruptError)) {
			return found, &partd.Error{Op: "verify", Err: errors.Join(append(errs, err)...)}
		}
		errs = append(errs, err)
		found.Segments++
		found.Records += g.ledger.Pieces
		found.Sum.Add(g.ledger.Sum)
	}
	return found, errors.Join(errs...)
}

// checkSegment reads a segment whole, by one request.
func (s *Store) checkSegment(ctx context.Context, g *stored) error {
	r, err := s.bucket.ReadRange(ctx, g.object, g.base, g.End)
	if err != nil {
		return err
	}
	b := &body{r: r}
	file := g.file
	file.ReaderAt = b
	return errors.Join(checkFile(&file, b, g), r.Close())
}

func checkFile(file *segment.File, b *body, g *stored) error {
	if err := file.CheckHeader(); err != nil {
		return err
	}
	var blocks segment.Reader
	footerAt := g.Start + int64(g.Off[len(g.Off)-1])
	blocks.Reset(file, g.Start, footerAt)
	var found segment.Ledger
	err := segment.EachEntry(&blocks, func(e *segment.Entry) error {
		found.AddEntry(e.Kind, e.Raw[e.Head:], len(e.Value))
		return nil
	})
	if errors.Is(err, segment.ErrShortEntry) || errors.Is(err, segment.ErrBadEntry) {
		return file.Corrupt(g.Start, err)
	}
	if err != nil {
		return err
	}
	if err := g.ledger.Diff(found); err != nil {
		return file.Corrupt(g.Start, err)
	}
	rest, err := io.ReadAll(b.r)
	if err != nil {
		return err
	}
	file.ReaderAt = &tail{footerAt, rest}
	_, _, err = segment.ReadFooter(file, g.End)
	return err
}
