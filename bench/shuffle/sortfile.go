package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/tempdir"
)

// sortFile sorts the lines of a CSV file by the second column. The parameters in and out are the
// names of the input and the output file. The input must not contain quotes. sortFile uses package
// extsort directly.
func sortFile(ctx context.Context, in, out, dir string, memory int64, threads int) (stats extsort.Stats, err error) {
	var dirs []string
	if dir != "" {
		dirs = []string{dir}
	}
	temp, err := tempdir.New(dirs, nil)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, temp.Close()) }()
	s, err := extsort.New(ctx, &extsort.Options{Memory: memory, Threads: threads, Temp: temp})
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := feedLines(in, threads, s); err != nil {
		return stats, err
	}
	f, err := os.Create(out)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for b, err := range s.Sorted() {
		if err != nil {
			return stats, err
		}
		if _, err := f.Write(b.Data); err != nil {
			return stats, err
		}
	}
	return s.Stats(), nil
}

type block struct {
	number uint64
	data   []byte
}

// feedLines adds the lines of a file, except its header, to a sorter. Threads add blocks of lines
// concurrently; the blocks' numbers tell the sorter the order.
func feedLines(name string, threads int, s *extsort.Sorter) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size := s.BufferSize() * 3 / 4
	full := make(chan block, threads)
	empty := make(chan []byte, threads+2)
	for range cap(empty) {
		empty <- make([]byte, 0, size)
	}
	errs := make(chan error, threads+1)
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			for b := range full {
				if err := addLines(s, b); err != nil {
					errs <- err
					return
				}
				empty <- b.data
			}
		})
	}
	var rest []byte
	header := true
	for number := uint64(0); ; number++ {
		b := append((<-empty)[:0], rest...)
		n, err := io.ReadFull(f, b[len(b):cap(b)])
		b = b[:len(b)+n]
		end := bytes.LastIndexByte(b, '\n') + 1
		rest = append(rest[:0], b[end:]...)
		b = b[:end]
		if header {
			b = b[bytes.IndexByte(b, '\n')+1:]
			header = false
		}
		full <- block{number, b}
		if err != nil {
			break
		}
	}
	close(full)
	wg.Wait()
	close(errs)
	return <-errs
}

func addLines(s *extsort.Sorter, b block) error {
	w, err := s.Batch(b.number)
	if err != nil {
		return err
	}
	for data := b.data; len(data) > 0; {
		end := bytes.IndexByte(data, '\n') + 1
		line := data[:end]
		data = data[end:]
		key := line[bytes.IndexByte(line, ',')+1:]
		if err := w.Add(key[:bytes.IndexByte(key, ',')], line); err != nil {
			return err
		}
	}
	return w.Close()
}
