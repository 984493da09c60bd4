package filedir

import (
	"context"
	"errors"
	"io"

	"github.com/go-partd/partd/internal/canceled"
)

// scanBunch is how many files are opened under one lock. They stay open while the
// caller thinks, and there may be hundreds of callers.
const scanBunch = 8

var errStopped = errors.New("the visitor wants no more")

// Visit gets a piece of a value, and reports whether to go on. The bytes are valid
// until it returns.
type Visit func(key string, offset int64, data []byte, last bool) bool

// Scan visits the keys that the store has when it begins, each with its value: all,
// or those whose files have names that are wanted.
func (d *Dir) Scan(ctx context.Context, wanted func(name string) bool, visit Visit) error {
	list, err := d.snapshot(ctx, wanted)
	if err != nil {
		return err
	}
	buf := make([]byte, writeSize)
	for at, bunch := 0, min(scanBunch, d.bunch()); at < list.len(); {
		n, err := d.scanFiles(ctx, list, at, min(at+bunch, list.len()), buf, visit)
		if errors.Is(err, errStopped) {
			return nil
		}
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

// scanFiles visits the values of some files, and returns of how many.
func (d *Dir) scanFiles(ctx context.Context, list *nameList, from, to int, buf []byte, visit Visit) (int, error) {
	keys := make([]string, to-from)
	open := func(i int) (noted, error) {
		name := list.name(from + i)
		n, err := d.note(name)
		if err == nil && n.file != nil {
			if keys[i], err = d.keyOf(name); err != nil {
				err = errors.Join(err, n.close())
			}
		}
		return n, err
	}
	return d.eachNoted(ctx, to-from, open, func(i int, file *noted) error {
		if file.file == nil {
			return nil
		}
		return d.scanFile(ctx, keys[i], file, buf, visit)
	})
}

func (d *Dir) scanFile(ctx context.Context, key string, n *noted, buf []byte, visit Visit) error {
	for at, last := int64(0), false; !last; {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		p := buf[:min(int64(len(buf)), n.size-at)]
		err := readFull(n.file, p, at)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			if at > 0 {
				return d.KeyError(key, errCutWhileRead(at, n.size))
			}
			// A Python process replaced it in place; nothing was visited yet.
			if p, err = d.readAgain(ctx, key); err == nil {
				n.size = int64(len(p))
			}
		}
		if err != nil {
			return err
		}
		last = at+int64(len(p)) == n.size
		if !visit(key, at, p, last) {
			return errStopped
		}
		at += int64(len(p))
	}
	return nil
}
