package icecat

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/twmb/avro/ocf"
)

// normalizedFields is the schema of the fields, besides bounds, that normalize can change. It has placeholders for the
// name of the outer field, and for the name and namespace of that field's record.
const normalizedFields = `{"name": %q, "type": {"type": "record", "name": %q, "namespace": %q, "fields": [
	{"name": "file_format", "type": "string", "default": ""},
	{"name": "referenced_data_file", "type": ["null", "string"], "default": null}]}}`

// normalizedEntry is an entry of a manifest with these fields. For a manifest list, it is empty.
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
