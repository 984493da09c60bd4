package filedir

import (
	"context"
	"errors"
	"io"

	"github.com/go-partd/partd/internal/base/canceled"
)

// scanBatch is the maximum number of files that a Scan opens at once. It is small, because the
// files stay open while the caller processes the values, and hundreds of scans may run.
const scanBatch = 8

var errStopped = errors.New("the caller stopped the scan")

// Visit receives a chunk of a value, and reports whether to continue. data is valid only during the
// call.
type Visit func(key string, offset int64, data []byte, last bool) bool

// Scan visits the values of the keys that exist when Scan begins. It visits only the keys whose
// file names matches accepts, or all keys if matches is nil.
func (d *Dir) Scan(ctx context.Context, matches func(name string) bool, visit Visit) error {
	list, err := d.listAll(ctx, matches)
	if err != nil {
		return err
	}
	buf := make([]byte, writeSize)
	for first, batchSize := 0, min(scanBatch, d.batchSize()); first < list.len(); {
		n, err := d.scanFiles(ctx, list, first, min(first+batchSize, list.len()), buf, visit)
		if errors.Is(err, errStopped) {
			return nil
		}
		if err != nil {
			return err
		}
		first += n
	}
	return nil
}

// scanFiles visits the values of list's files with indexes in [from, to). It returns the number of
// visited files, which is less than to-from if too many files are open.
func (d *Dir) scanFiles(ctx context.Context, list *nameList, from, to int, buf []byte, visit Visit) (int, error) {
	keys := make([]string, to-from)
	open := func(i int) (openedFile, error) {
		name := list.name(from + i)
		n, err := d.tree.openValue(name)
		if err == nil && n.file != nil {
			if keys[i], err = d.tree.keyOf(name); err != nil {
				err = errors.Join(err, n.close())
			}
		}
		return n, err
	}
	return d.eachOpened(ctx, to-from, open, func(i int, file *openedFile) error {
		if file.file == nil {
			return nil
		}
		return d.scanFile(ctx, keys[i], file, buf, visit)
	})
}

func (d *Dir) scanFile(ctx context.Context, key string, n *openedFile, buf []byte, visit Visit) error {
	for offset, last := int64(0), false; !last; {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		p := buf[:min(int64(len(buf)), n.size-offset)]
		err := readFull(n.file, p, offset)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			if offset > 0 {
				return d.KeyError(key, truncatedError(offset, n.size))
			}
			// A Python process overwrote the value. Nothing was visited yet, so read it again.
			if p, err = d.readAgain(ctx, key); err == nil {
				n.size = int64(len(p))
			}
		}
		if err != nil {
			return err
		}
		last = offset+int64(len(p)) == n.size
		if !visit(key, offset, p, last) {
			return errStopped
		}
		offset += int64(len(p))
	}
	return nil
}
