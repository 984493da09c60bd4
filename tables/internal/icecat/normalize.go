package icecat

import (
	"bytes"
	"cmp"
	"io"
	"strings"

	"github.com/twmb/avro/ocf"
)

// normalizedFields is the schema of the fields that normalize can change, with placeholders for the name of the outer field, and
// for the name and namespace of its record.
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

// normalize returns a manifest in the form that Iceberg's library requires. DuckDB writes names of file formats in lower
// case, and an empty path instead of null for an entry that refers to no data file.
func normalize(content []byte) ([]byte, error) {
	r, err := ocf.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // opened only for reading
	metadata := r.Metadata()
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
				return content, nil // the library reports an error other than io.EOF
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
		encodeErr = cmp.Or(encodeErr, w.Encode(entry))
	}
}
