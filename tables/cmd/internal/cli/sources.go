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

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
)

// source is a table to import from another program's directory.
type source struct {
	bucket, name string
	files        []string // Parquet files, in row order
	metadata     tables.Metadata
}

// sources maps the name of each supported program to a function that lists the tables in a directory of this program.
var sources = map[string]func(dir string) ([]source, error){"shoots": shootsSources, "pystore": pystoreSources}

// subdirectories returns the names of dir's subdirectories, sorted.
func subdirectories(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// shootsSources lists the tables in a shoots directory: DIR/NAME.parquet, in the default bucket, and
// DIR/BUCKET/NAME.parquet.
func shootsSources(dir string) ([]source, error) {
	buckets, err := subdirectories(dir)
	if err != nil {
		return nil, err
	}
	var sources []source
	for _, bucket := range append([]string{""}, buckets...) {
		files, err := parquetFiles(filepath.Join(dir, bucket))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			sources = append(sources, source{bucket: bucket, name: strings.TrimSuffix(filepath.Base(f), ".parquet"), files: []string{f}})
		}
	}
	return sources, nil
}

const (
	pystoreMetadata  = "pystore_metadata.json"
	pystoreSnapshots = "_snapshots"
)

// pystoreSources lists the tables of a pystore store. The item DIR/COLLECTION/ITEM/*.parquet becomes the table ITEM in
// the bucket COLLECTION. An item of a snapshot, DIR/COLLECTION/_snapshots/SNAPSHOT/ITEM/*.parquet, becomes the table ITEM
// in the bucket COLLECTION@SNAPSHOT.
func pystoreSources(dir string) ([]source, error) {
	collections, err := subdirectories(dir)
	if err != nil {
		return nil, err
	}
	for _, c := range collections {
		// A store contains this file, but a collection does not.
		if _, err := os.Stat(filepath.Join(dir, c, pystoreMetadata)); err == nil {
			return nil, cliutil.Usagef("%s contains several pystore stores: name one of them, such as %s", dir, filepath.Join(dir, c))
		}
	}
	var sources []source
	for _, c := range collections {
		items, err := pystoreItems(filepath.Join(dir, c), c)
		if err != nil {
			return nil, err
		}
		sources = append(sources, items...)
		snapshots, err := subdirectories(filepath.Join(dir, c, pystoreSnapshots))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, s := range snapshots {
			items, err := pystoreItems(filepath.Join(dir, c, pystoreSnapshots, s), c+"@"+s)
			if err != nil {
				return nil, err
			}
			sources = append(sources, items...)
		}
	}
	return sources, nil
}

func pystoreItems(dir, bucket string) ([]source, error) {
	items, err := subdirectories(dir)
	if err != nil {
		return nil, err
	}
	var sources []source
	for _, item := range items {
		if item == pystoreSnapshots {
			continue
		}
		s := source{bucket: bucket, name: item}
		s.files, err = parquetFiles(filepath.Join(dir, item))
		if err != nil {
			return nil, err
		}
		if len(s.files) == 0 {
			return nil, fmt.Errorf("%s: the item contains no Parquet files", filepath.Join(dir, item))
		}
		s.metadata, err = pystoreItemMetadata(filepath.Join(dir, item, pystoreMetadata))
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// pystoreItemMetadata returns an item's metadata. It renames the key _updated, because a table records the time of its
// last change by itself.
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

// parquetFiles returns the paths of the Parquet files in a directory, in the order of their part numbers:
// part.2.parquet comes before part.10.parquet.
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
