package appendload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
)

// hashFiles is the baseline. It distributes entries over 256 files by the hash of the key. Each
// file has a buffer of 64 KiB, which is lost in a crash. To read, it loads one file at a time into
// memory and groups the entries by key.
type hashFiles struct {
	files [256]*os.File
	bufs  [256][]byte
}

func openHashFiles(dir string) (*hashFiles, error) {
	h := &hashFiles{}
	for i := range h.files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return nil, err
		}
		h.files[i], h.bufs[i] = f, make([]byte, 0, 64<<10)
	}
	return h, nil
}

func (h *hashFiles) Append(entries []partd.Entry) error {
	for i := range entries {
		e := &entries[i]
		p := xxh3.HashString(e.Key) >> 56
		b := h.bufs[p]
		if len(b)+len(e.Key)+len(e.Value)+20 > cap(b) {
			if _, err := h.files[p].Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
		b = binary.AppendUvarint(b, uint64(len(e.Value)))
		b = binary.AppendUvarint(b, uint64(len(e.Key)))
		b = append(b, e.Key...)
		if len(e.Value) > cap(b)-len(b) { // too large for the buffer
			if _, err := h.files[p].Write(b); err != nil {
				return err
			}
			if _, err := h.files[p].Write(e.Value); err != nil {
				return err
			}
			h.bufs[p] = b[:0]
			continue
		}
		h.bufs[p] = append(b, e.Value...)
	}
	return nil
}

func (h *hashFiles) Flush() error {
	for i, f := range h.files {
		if _, err := f.Write(h.bufs[i]); err != nil {
			return err
		}
		h.bufs[i] = h.bufs[i][:0]
	}
	return nil
}

func (h *hashFiles) Scan(handle func(key string, b []byte, isFirst bool) error) error {
	type group struct {
		key       []byte
		size, off int
	}
	var out []byte
	return h.eachFile(func(data []byte) error {
		if cap(out) < cap(data) {
			out = make([]byte, cap(data))
		}
		index := map[string]int{}
		var groups []group
		for b := data; len(b) > 0; {
			v, a := binary.Uvarint(b)
			k, c := binary.Uvarint(b[a:])
			key := b[a+c : a+c+int(k)]
			g, ok := index[string(key)]
			if !ok {
				g = len(groups)
				groups = append(groups, group{key: key})
				index[string(key)] = g
			}
			groups[g].size += int(v)
			b = b[a+c+int(k)+int(v):]
		}
		offset := 0
		for i := range groups {
			groups[i].off = offset
			offset += groups[i].size
			groups[i].size = 0
		}
		for b := data; len(b) > 0; {
			v, a := binary.Uvarint(b)
			k, c := binary.Uvarint(b[a:])
			b = b[a+c:]
			g := &groups[index[string(b[:k])]]
			g.size += copy(out[g.off+g.size:], b[k:k+v])
			b = b[k+v:]
		}
		for i := range groups {
			g := &groups[i]
			if err := handle(string(g.key), out[g.off:g.off+g.size], true); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachFile calls use with the content of each file. All calls use the same memory.
func (h *hashFiles) eachFile(use func(data []byte) error) error {
	var data []byte
	for _, f := range h.files {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		n := int(info.Size())
		if cap(data) < n {
			data = nil // so that the garbage collector can free it first
			data = make([]byte, n+n/8)
		}
		data = data[:n]
		if _, err := f.ReadAt(data, 0); err != nil && err != io.EOF {
			return err
		}
		if err := use(data); err != nil {
			return err
		}
	}
	return nil
}

func (h *hashFiles) Close() error {
	var errs []error
	for _, f := range h.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
