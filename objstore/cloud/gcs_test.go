package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
)

// fakeGCS answers what the driver asks of Google Cloud Storage, from memory.
func fakeGCS(t *testing.T) *httptest.Server {
	mem := new(objstore.Memory)
	fail := func(w http.ResponseWriter, err error) {
		code := http.StatusInternalServerError
		if errors.Is(err, os.ErrNotExist) {
			code = http.StatusNotFound
		} else if errors.Is(err, os.ErrExist) {
			code = http.StatusPreconditionFailed
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"error":{"code":%d,"message":%q}}`, code, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /upload/storage/v1/b/bucket/o", func(w http.ResponseWriter, r *http.Request) {
		_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || r.URL.Query().Get("ifGenerationMatch") != "0" {
			fail(w, fmt.Errorf("no condition in %v (%w)", r.URL, err))
			return
		}
		parts := multipart.NewReader(r.Body, params["boundary"])
		meta, err := parts.NextPart()
		var o struct{ Name, CRC32C string }
		if err == nil {
			err = json.NewDecoder(meta).Decode(&o)
		}
		var data []byte
		if media, e := parts.NextPart(); e == nil {
			data, e = io.ReadAll(media)
			err = errors.Join(err, e)
		}
		if err == nil && o.CRC32C == "" {
			err = errors.New("no checksum")
		}
		if err == nil {
			err = mem.Create(r.Context(), o.Name, data)
		}
		if err != nil {
			fail(w, err)
			return
		}
		fmt.Fprintf(w, `{"name":%q,"bucket":"bucket","size":"%d"}`, o.Name, len(data))
	})
	mux.HandleFunc("GET /storage/v1/b/bucket/o", func(w http.ResponseWriter, r *http.Request) {
		items := []map[string]string{}
		start := r.URL.Query().Get("startOffset")
		for o := range mem.List(r.Context(), r.URL.Query().Get("prefix"), "") {
			if o.Name >= start {
				items = append(items, map[string]string{"name": o.Name, "size": fmt.Sprint(o.Size), "updated": o.Modified.Format("2006-01-02T15:04:05.000Z07:00")})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		raw, ok := strings.CutPrefix(r.URL.EscapedPath(), "/storage/v1/b/bucket/o/")
		name, err := url.PathUnescape(raw)
		if !ok || err != nil {
			fail(w, fmt.Errorf("%s %s", r.Method, r.URL))
			return
		}
		body, err := mem.ReadRange(r.Context(), name, 0, -1)
		if err != nil {
			fail(w, err)
			return
		}
		if r.Method == http.MethodDelete {
			_ = mem.Delete(r.Context(), name)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		data, _ := io.ReadAll(body)
		w.Header().Set("X-Goog-Generation", "1")
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		http.ServeContent(w, r, "", time.Now(), strings.NewReader(string(data)))
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestGCS(t *testing.T) {
	server := fakeGCS(t)
	b, err := openGCS(t.Context(), "bucket", "a/", server.URL+"/storage/v1/")
	if err != nil {
		t.Fatal(err)
	}
	checkBucket(t, b)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	endpoint := url.QueryEscape(server.URL + "/storage/v1/")
	for i := range 2 {
		s := openURL(t, "gs://bucket/store?memory=16MiB&endpoint="+endpoint)
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		values, err := s.Get(t.Context(), "k")
		if want := "01"[:i+1]; err != nil || string(values[0]) != want {
			t.Errorf("%q, %v", values, err)
		}
		if err := partd.Close(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
}
