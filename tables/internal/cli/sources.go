package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
)

// source is a table that another program wrote.
type source struct {
	bucket, name string
	files        []string // Parquet, in the order of their rows
	metadata     tables.Metadata
}

// sources are the programs whose directories are understood.
var sources = map[string]func(dir string) ([]source, error){"shoots": shootsSources, "pystore": pystoreSources}

// directories returns the names of the directories in one, sorted.
func directories(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// shootsSources finds DIR/NAME.parquet in the default bucket, and
// DIR/BUCKET/NAME.parquet.
func shootsSources(dir string) ([]source, error) {
	buckets, err := directories(dir)
	if err != nil {
		return nil, err
	}
	var all []source
	for _, bucket := range append([]string{""}, buckets...) {
		files, err := parquetFiles(filepath.Join(dir, bucket))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			all = append(all, source{bucket: bucket, name: strings.TrimSuffix(filepath.Base(f), ".parquet"), files: []string{f}})
		}
	}
	return all, nil
}

const (
	pystoreMetadata  = "pystore_metadata.json"
	pystoreSnapshots = "_snapshots"
)

// pystoreSources finds DIR/COLLECTION/ITEM/*.parquet, and the items of each
// snapshot, DIR/COLLECTION/_snapshots/SNAPSHOT/ITEM/*.parquet, as those of a
// bucket COLLECTION@SNAPSHOT. DIR is one store.
func pystoreSources(dir string) ([]source, error) {
	collections, err := directories(dir)
	if err != nil {
		return nil, err
	}
	for _, c := range collections {
		// A store says so, a collection does not.
		if _, err := os.Stat(filepath.Join(dir, c, pystoreMetadata)); err == nil {
			return nil, cliutil.Usagef("%s has stores of pystore: name one of them, such as %s", dir, filepath.Join(dir, c))
		}
	}
	var all []source
	for _, c := range collections {
		items, err := pystoreItems(filepath.Join(dir, c), c)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		snapshots, err := directories(filepath.Join(dir, c, pystoreSnapshots))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, s := range snapshots {
			items, err := pystoreItems(filepath.Join(dir, c, pystoreSnapshots, s), c+"@"+s)
			if err != nil {
				return nil, err
			}
			all = append(all, items...)
		}
	}
	return all, nil
}

func pystoreItems(dir, bucket string) ([]source, error) {
	items, err := directories(dir)
	if err != nil {
		return nil, err
	}
	var all []source
	for _, item := range items {
		if item == pystoreSnapshots {
			continue
		}
		s := source{bucket: bucket, name: item}
		if s.files, err = parquetFiles(filepath.Join(dir, item)); err != nil {
			return nil, err
		}
		if len(s.files) == 0 {
			return nil, fmt.Errorf("%s: an item without Parquet files", filepath.Join(dir, item))
		}
		if s.metadata, err = pystoreItemMetadata(filepath.Join(dir, item, pystoreMetadata)); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// pystoreItemMetadata returns an item's metadata. The time of the last change, which ours keep themselves, gets another
// name.
func pystoreItemMetadata(path string) (tables.Metadata, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var metadata tables.Metadata
	if err := json.Unmarshal(text, &metadata); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if updated, ok := metadata["_updated"]; ok {
		metadata["pystore._updated"] = updated
		delete(metadata, "_updated")
	}
	return metadata, nil
}

// parquetFiles returns the Parquet files of a directory: part.2 before part.10.
func parquetFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".parquet") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Or(cmp.Compare(partNumber(a), partNumber(b)), strings.Compare(a, b)) })
	return files, nil
}

func partNumber(path string) int {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "part."), ".parquet"))
	if err != nil {
		return -1
	}
	return n
}
