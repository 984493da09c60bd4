package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// verify answers with what a check of the store found. Looking beneath layers is
// what Unwrap is for. There is one at a time, as it reads everything.
func (s *Server) verify(ctx context.Context, a *answer) error {
	store := s.store
	checker, can := store.(partd.Checker)
	for !can {
		layer, ok := store.(partd.Unwrapper)
		if !ok {
			return fmt.Errorf("the server's store keeps no checksums: %w", errors.ErrUnsupported)
		}
		store = layer.Unwrap()
		checker, can = store.(partd.Checker)
	}
	select {
	case s.checking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.checking }()
	found, err := checker.Check(ctx)
	if err != nil && !errors.As(err, new(*partd.CorruptError)) || ctx.Err() != nil {
		return err
	}
	a.u64(uint64(found.Records))
	a.u64(uint64(found.Segments))
	count, n := a.hole(), uint32(0)
	for _, d := range damages(err) {
		a.buf = appendText(a.buf, cut(publicPath(d.Path)))
		a.u64(uint64(d.Offset))
		a.buf = appendText(a.buf, cut(publicText(d.Err.Error(), d)))
		n++
	}
	a.fill(count, n)
	return nil
}

// damages takes apart what a check found. An error of another kind is one of no
// file.
func damages(err error) []*partd.CorruptError {
	switch e := err.(type) {
	case nil:
		return nil
	case *partd.CorruptError:
		return []*partd.CorruptError{e}
	case interface{ Unwrap() []error }:
		var all []*partd.CorruptError
		for _, one := range e.Unwrap() {
			all = append(all, damages(one)...)
		}
		return all
	}
	if errors.As(err, new(*partd.CorruptError)) {
		return damages(errors.Unwrap(err))
	}
	return []*partd.CorruptError{{Path: "?", Offset: -1, Err: err}}
}

// Check has the server compare all checksums of its store. It goes on after
// damage, and its error joins a [partd.CorruptError] for each place, in files of
// the server.
func (c *Client) Check(ctx context.Context) (partd.Checked, error) {
	k := newCall(opVerify)
	if err := c.do(ctx, k); err != nil {
		return partd.Checked{}, c.errorf("verify", err)
	}
	d := &decoder{b: k.reply}
	found := partd.Checked{Records: int64(d.u64()), Segments: int64(d.u64())}
	var errs []error
	for range d.count(4+8+4, 0) {
		file, offset, what := d.text(), int64(d.u64()), d.text()
		errs = append(errs, &partd.CorruptError{Path: file, Offset: offset, Err: errors.New(what)})
	}
	if err := d.end(); err != nil {
		return partd.Checked{}, c.badReply("verify", err)
	}
	return found, c.errorf("verify", errors.Join(errs...))
}
