package icecat

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
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

// withEmptyBounds returns a manifest list with bounds for partition values that are empty strings or bytes. iceberg-go
// 0.7 writes null instead, which readers take to mean that all values are null, so they skip the manifest. A list that
// needs no such bounds is returned unchanged.
func (f *FileIO) withEmptyBounds(list []byte) ([]byte, error) {
	r, err := ocf.NewReader(bytes.NewReader(list), ocf.WithReaderSchema(listEntrySchema))
	if err != nil {
		return nil, err
	}
	defer r.Close()          //nolint:errcheck // reads memory
	empty := map[int][]int{} // for each entry, the partition fields with an empty value but no lower bound
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
		var unbounded []int // fields without a lower bound
		for i, s := range *entry.Partitions {
			if s.Lower == nil && (s.HasNaN == nil || !*s.HasNaN) {
				unbounded = append(unbounded, i)
			}
		}
		if len(unbounded) == 0 {
			continue
		}
		if fields, err := f.emptyFields(entry.Manifest, unbounded); err != nil {
			return nil, err
		} else if len(fields) > 0 {
			empty[n] = fields
		}
	}
	if len(empty) == 0 {
		return list, nil
	}
	return setEmptyBounds(list, empty)
}

// listEntry has the fields of a manifest list entry that withEmptyBounds needs.
type listEntry struct {
	Manifest   string `avro:"manifest_path"`
	Partitions *[]struct {
		HasNaN *bool   `avro:"contains_nan"`
		Lower  *[]byte `avro:"lower_bound"`
	} `avro:"partitions"`
}

// listEntrySchema is the schema of a listEntry, with the names that iceberg-go writes.
var listEntrySchema = avro.MustParse(`{"type": "record", "name": "manifest_file", "fields": [
	{"name": "manifest_path", "type": "string"},
	{"name": "partitions", "default": null, "type": ["null", {"type": "array", "items": {"type": "record", "name": "r508", "fields": [
		{"name": "contains_nan", "type": ["null", "boolean"], "default": null},
		{"name": "lower_bound", "type": ["null", "bytes"], "default": null}]}}]}]}`)

// setEmptyBounds sets missing bounds to the empty string. empty contains the partition fields to change, by entry
// index.
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

// emptyFields returns the given partition fields in which some file of the manifest has an empty string or empty
// bytes.
func (f *FileIO) emptyFields(location string, fields []int) (empty []int, err error) {
	content, err := f.ReadFile(location)
	if err != nil {
		return nil, err
	}
	r, err := ocf.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // reads memory
	var spec []struct{ Name string }
	if err := json.Unmarshal(r.Metadata()["partition-spec"], &spec); err != nil {
		return nil, err
	}
	fields = slices.DeleteFunc(fields, func(i int) bool { return i >= len(spec) })
	for len(empty) < len(fields) {
		var entry map[string]any
		if err := r.Decode(&entry); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		file, _ := entry[string(ManifestKind)].(map[string]any)
		partition, _ := file["partition"].(map[string]any)
		for _, i := range fields {
			text, isText := partition[spec[i].Name].(string)
			value, isBytes := partition[spec[i].Name].([]byte)
			if (isText || isBytes) && len(text)+len(value) == 0 && !slices.Contains(empty, i) {
				empty = append(empty, i)
			}
		}
	}
	return empty, nil
}

// normalizedFields is the schema of the fields, besides bounds, that normalize can change. It has placeholders for the
// name of the outer field, and for the name and namespace of that field's record.
const normalizedFields = `{"name": %q, "type": {"type": "record", "name": %q, "namespace": %q, "fields": [
	{"name": "file_format", "type": "string", "default": ""},
	{"name": "referenced_data_file", "type": ["null", "string"], "default": null}]}}`

// normalizedEntry is a manifest entry with the normalizedFields. For a manifest list, it is empty.
type normalizedEntry struct {
	File struct {
		Format     string  `avro:"file_format"`
		Referenced *string `avro:"referenced_data_file"`
	} `avro:"data_file"`
}

func (e *normalizedEntry) isNormal() bool {
	return e.File.Format == strings.ToUpper(e.File.Format) && (e.File.Referenced == nil || *e.File.Referenced != "")
}

// hasNanoseconds reports whether the schema in a manifest's metadata has columns with times in nanoseconds.
func hasNanoseconds(metadata map[string][]byte) bool {
	return bytes.Contains(metadata["schema"], []byte("timestamp_ns")) || bytes.Contains(metadata["schema"], []byte("timestamptz_ns"))
}

// trustedBounds returns the bounds of the columns that are not times in nanoseconds.
func trustedBounds(s *iceberg.Schema, bounds []any) []any {
	return slices.DeleteFunc(slices.Clone(bounds), func(bound any) bool {
		b, _ := bound.(map[string]any)
		id, _ := b["key"].(int32)
		t, known := s.FindTypeByID(int(id))
		return !known || t.Equals(iceberg.TimestampNsType{}) || t.Equals(iceberg.TimestampTzNsType{})
	})
}

// normalize returns a manifest in the form that Iceberg's library requires. DuckDB writes the names of file formats in
// lower case, and, for an entry that refers to no data file, an empty path instead of null. Its bounds on times in
// nanoseconds can exclude values in the file, so normalize removes them.
func normalize(content []byte) ([]byte, error) {
	r, err := ocf.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // opened only for reading
	metadata := r.Metadata()
	var s iceberg.Schema
	checkBounds := hasNanoseconds(metadata)
	if checkBounds {
		_ = json.Unmarshal(metadata["schema"], &s) // if it is invalid, no bounds are trusted
	}
	delete(metadata, "avro.schema") // ocf.NewWriter sets both
	delete(metadata, "avro.codec")
	var out bytes.Buffer
	w, err := ocf.NewWriter(&out, r.Schema(), ocf.WithMetadata(metadata), ocf.WithCodec(ocf.DeflateCodec(1)))
	if err != nil {
		return nil, err
	}
	var encodeErr error
	for changed := false; ; {
		var entry map[string]any
		if err := r.Decode(&entry); err != nil {
			if err != io.EOF || !changed {
				return content, nil // if err is not io.EOF, the library will report it
			}
			encodeErr = cmp.Or(encodeErr, w.Close())
			return out.Bytes(), encodeErr
		}
		file := entry[string(ManifestKind)].(map[string]any)
		if format, _ := file["file_format"].(string); format != strings.ToUpper(format) {
			file["file_format"], changed = strings.ToUpper(format), true
		}
		if file["referenced_data_file"] == "" {
			file["referenced_data_file"], changed = nil, true
		}
		for _, name := range []string{"lower_bounds", "upper_bounds"} {
			if bounds, _ := file[name].([]any); checkBounds && len(bounds) > 0 {
				trusted := trustedBounds(&s, bounds)
				file[name], changed = trusted, changed || len(trusted) < len(bounds)
			}
		}
		encodeErr = cmp.Or(encodeErr, w.Encode(entry))
	}
}
