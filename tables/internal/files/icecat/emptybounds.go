package icecat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"
)

// isManifestList reports whether a file to create is a manifest list.
func isManifestList(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, "snap-") && path.Ext(base) == ".avro"
}

// listFile holds a manifest list until it is complete.
type listFile struct {
	bytes.Buffer
	fileIO *FileIO
	name   string
	closed bool
}

// Close writes the list.
func (l *listFile) Close() error {
	if l.closed {
		return nil
	}
	l.closed = true
	list, err := l.fileIO.withEmptyBounds(l.Bytes())
	if err != nil {
		return l.fileIO.fail(fmt.Errorf("set the bounds in the manifest list %s: %w", l.name, err))
	}
	w, err := l.fileIO.create(l.name)
	if err != nil {
		return err
	}
	_, err = w.Write(list)
	return errors.Join(err, w.Close())
}

// withEmptyBounds returns a manifest list in which the bounds of partition values that are empty texts or bytes are set.
// iceberg-go 0.7 writes null instead, which readers take for "all values are null", so that they skip the manifest. A list
// without such bounds is returned as it is.
func (f *FileIO) withEmptyBounds(list []byte) ([]byte, error) {
	r, err := ocf.NewReader(bytes.NewReader(list), ocf.WithReaderSchema(listEntrySchema))
	if err != nil {
		return nil, err
	}
	defer r.Close()          //nolint:errcheck // reads memory
	empty := map[int][]int{} // by entry: the partition fields with an empty value and without a lower bound
	for n := 0; ; n++ {
		var entry listEntry
		if err := r.Decode(&entry); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		if entry.Partitions == nil {
			continue
		}
		for i, s := range *entry.Partitions {
			if s.Lower != nil || s.HasNaN != nil && *s.HasNaN {
				continue
			}
			if isEmpty, err := f.hasEmptyValue(entry.Manifest, i); err != nil {
				return nil, err
			} else if isEmpty {
				empty[n] = append(empty[n], i)
			}
		}
	}
	if len(empty) == 0 {
		return list, nil
	}
	return setEmptyBounds(list, empty)
}

// listEntry has the fields of a manifest list's entry that withEmptyBounds needs.
type listEntry struct {
	Manifest   string `avro:"manifest_path"`
	Partitions *[]struct {
		HasNaN *bool   `avro:"contains_nan"`
		Lower  *[]byte `avro:"lower_bound"`
	} `avro:"partitions"`
}

// listEntrySchema has these fields. Its names are those in the lists that iceberg-go writes.
var listEntrySchema = avro.MustParse(`{"type": "record", "name": "manifest_file", "fields": [
	{"name": "manifest_path", "type": "string"},
	{"name": "partitions", "default": null, "type": ["null", {"type": "array", "items": {"type": "record", "name": "r508", "fields": [
		{"name": "contains_nan", "type": ["null", "boolean"], "default": null},
		{"name": "lower_bound", "type": ["null", "bytes"], "default": null}]}}]}]}`)

// setEmptyBounds sets missing bounds to the empty text, in the given partition fields of the entries with the given numbers.
func setEmptyBounds(list []byte, empty map[int][]int) ([]byte, error) {
	r, err := ocf.NewReader(bytes.NewReader(list))
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // reads memory
	metadata := r.Metadata()
	delete(metadata, "avro.schema") // ocf.NewWriter sets both
	delete(metadata, "avro.codec")
	var out bytes.Buffer
	w, err := ocf.NewWriter(&out, r.Schema(), ocf.WithMetadata(metadata), ocf.WithCodec(ocf.DeflateCodec(1)))
	if err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		var entry map[string]any
		if err := r.Decode(&entry); err == io.EOF {
			err = w.Close()
			return out.Bytes(), err
		} else if err != nil {
			return nil, err
		}
		summaries, _ := entry["partitions"].([]any)
		for _, i := range empty[n] {
			s := summaries[i].(map[string]any)
			s["lower_bound"] = []byte{}
			if s["upper_bound"] == nil {
				s["upper_bound"] = []byte{}
			}
		}
		if err := w.Encode(entry); err != nil {
			return nil, err
		}
	}
}

// hasEmptyValue reports whether a file in a manifest has an empty text or no bytes in the ith field of its partition.
func (f *FileIO) hasEmptyValue(location string, i int) (bool, error) {
	content, err := f.ReadFile(location)
	if err != nil {
		return false, err
	}
	r, err := ocf.NewReader(bytes.NewReader(content))
	if err != nil {
		return false, err
	}
	defer r.Close() //nolint:errcheck // reads memory
	var fields []struct{ Name string }
	if err := json.Unmarshal(r.Metadata()["partition-spec"], &fields); err != nil {
		return false, err
	}
	if i >= len(fields) {
		return false, nil
	}
	for {
		var entry map[string]any
		if err := r.Decode(&entry); err != nil {
			if err == io.EOF {
				err = nil
			}
			return false, err
		}
		file, _ := entry[string(ManifestKind)].(map[string]any)
		partition, _ := file["partition"].(map[string]any)
		switch value := partition[fields[i].Name].(type) {
		case string:
			if value == "" {
				return true, nil
			}
		case []byte:
			if len(value) == 0 {
				return true, nil
			}
		}
	}
}
