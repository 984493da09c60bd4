package icecat

import (
	"bytes"
	"cmp"
	"io"
	"strings"

	"github.com/twmb/avro/ocf"
)

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
