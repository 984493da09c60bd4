package objstore

import (
	"context"
	"errors"
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Check reads the log and all committed segments and verifies all checksums and ledgers;
// see [partd.Checker].
func (s *Store) Check(ctx context.Context) (partd.CheckResult, error) {
	result := partd.CheckResult{Sum: new(partd.Sum)}
	var sum ledger.Sum128
	if _, err := s.flushAndRefresh(ctx); err != nil && !errors.As(err, new(*partd.CorruptError)) {
		return result, s.errorf("verify", err)
	}
	// Use a new catalog to read the whole log, because s.catalog reads only new records.
	log := new(catalog)
	log.init(&s.objects)
	v, err := log.refresh(ctx)
	errs := []error{err}
	if err != nil {
		v = view{segments: log.segments, drops: log.drops}
	}
	for _, g := range v.segments {
		err := s.retry(ctx, func(ctx context.Context) error { return s.checkSegment(ctx, g) })
		err = s.catalog.explainMissing(ctx, v, g, err)
		if err != nil && !errors.As(err, new(*partd.CorruptError)) {
			return result, s.errorf("verify", errors.Join(append(errs, err)...))
		}
		errs = append(errs, err)
		result.Segments++
		result.Records += g.ledger.Pieces
		sum.Add(g.ledger.Sum)
	}
	*result.Sum = partd.Sum(sum)
	return result, errors.Join(errs...)
}

func (s *Store) checkSegment(ctx context.Context, g *committedSegment) error {
	r, err := s.bucket.ReadRange(ctx, g.object, g.base, g.End)
	if err != nil {
		return err
	}
	b := &sequentialReader{r: r}
	file := g.file
	file.ReaderAt = b
	return errors.Join(checkFile(&file, b, g), r.Close())
}

func checkFile(file *segment.File, b *sequentialReader, g *committedSegment) error {
	if err := file.CheckHeader(); err != nil {
		return err
	}
	var blocks segment.Reader
	footerStart := g.Start + int64(g.Offsets[len(g.Offsets)-1])
	blocks.Reset(file, g.Start, footerStart)
	var ledger segment.Ledger
	err := segment.EachEntry(&blocks, func(e *segment.Entry) error {
		ledger.AddEntry(e.Kind, e.Raw[e.HashStart:], len(e.Value))
		return nil
	})
	if errors.Is(err, segment.ErrShortEntry) || errors.Is(err, segment.ErrBadEntry) {
		return file.Corrupt(g.Start, err)
	}
	if err != nil {
		return err
	}
	if err := g.ledger.Diff(ledger); err != nil {
		return file.Corrupt(g.Start, err)
	}
	footer, err := io.ReadAll(b.r)
	if err != nil {
		return err
	}
	file.ReaderAt = &fileTail{footerStart, footer}
	_, _, err = segment.ReadFooter(file, g.End)
	return err
}
