package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-partd/partd/logstore"
)

// readSorted reads rows that must be sorted by the bytes of their keys. The header may be at any
// position, because GNU sort treats it as a row.
func readSorted(src *input, outDir string, g *grouping) error {
	skip := !src.isText
	return eachLineOf(filepath.Join(outDir, "result"+src.extension()), false, func(line []byte) error {
		if skip && string(line) == src.header {
			skip = false
			return nil
		}
		key, ok := src.field(line, src.keyNumber)
		if !ok || g.hasKey && bytes.Compare(key, g.currentKey) < 0 {
			return fmt.Errorf("the output is not sorted, or has a row that is not in the input: %q", line)
		}
		g.add(key, line)
		return nil
	})
}

// readFiles reads a directory that has, for each key, a file or a subdirectory of files.
func readFiles(src *input, outDir string, g *grouping) error {
	return eachFile(filepath.Join(outDir, "files"), func(path string, rows []byte) error {
		if !src.isText {
			rest, ok := bytes.CutPrefix(rows, []byte(src.header+"\n"))
			if !ok {
				return fmt.Errorf("%s does not begin with the header", path)
			}
			rows = rest
		}
		return g.addRows(src, path, rows)
	})
}

func readPythonFiles(src *input, outDir string, g *grouping) error {
	return eachFile(filepath.Join(outDir, "store"), func(path string, rows []byte) error {
		if filepath.Base(path) == ".lock" {
			return nil
		}
		return g.addRows(src, path, rows)
	})
}

// addRows adds the rows of the file at path. All rows must have the same key.
func (g *grouping) addRows(src *input, path string, rows []byte) error {
	for first := true; len(rows) > 0; first = false {
		line, rest, isWhole := bytes.Cut(rows, []byte{'\n'})
		key, ok := src.field(line, src.keyNumber)
		if !isWhole || !ok || !first && string(key) != string(g.currentKey) {
			return fmt.Errorf("%s: row %q is incomplete, or its key differs from that of the previous rows", path, line)
		}
		g.add(key, line)
		rows = rest
	}
	return nil
}

func eachFile(dir string, handle func(path string, content []byte) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return handle(path, content)
	})
}

// readLogstore reads a log store. Each row must be stored under its own key.
func readLogstore(src *input, outDir string, g *grouping) (err error) {
	s, err := logstore.Open(filepath.Join(outDir, "store"), &logstore.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var partial []byte
	for chunk, err := range s.Scan(context.Background()) {
		if err != nil {
			return err
		}
		if chunk.Offset == 0 && len(partial) > 0 {
			return fmt.Errorf("a key's value ends within a row: %q", partial)
		}
		partial = append(partial, chunk.Data...)
		end := bytes.LastIndexByte(partial, '\n') + 1
		for rows := partial[:end]; len(rows) > 0; {
			line, rest, _ := bytes.Cut(rows, []byte{'\n'})
			if key, ok := src.field(line, src.keyNumber); !ok || string(key) != chunk.Key {
				return fmt.Errorf("the value of key %q contains a row with another key: %q", chunk.Key, line)
			}
			g.add([]byte(chunk.Key), line)
			rows = rest
		}
		partial = append(partial[:0], partial[end:]...)
	}
	if len(partial) > 0 {
		return fmt.Errorf("the store ends within a row: %q", partial)
	}
	return nil
}

// eachLineOf calls handle for each line of a file, except the first one if skipFirst is set.
func eachLineOf(path string, skipFirst bool, handle func(line []byte) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return eachLine(f, func(line []byte) error {
		if skipFirst {
			skipFirst = false
			return nil
		}
		return handle(line)
	})
}
