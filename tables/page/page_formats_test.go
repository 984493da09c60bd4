package page

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/formats"
)

// TestAnotherFormat checks that the formats of downloads, changes and uploads are those in the handler's options.
func TestAnotherFormat(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT 1 AS x")
	toy := formats.JSONL()
	toy.Name, toy.ContentType = "toy", "text/toy"
	write := toy.Write
	toy.Write = func(w io.Writer, columns *arrow.Schema, o formats.WriteOptions) (formats.Writer, error) {
		_, err := io.WriteString(w, "toy ")
		return must.Get(write(w, columns, o))(t), err
	}
	h := Handler(s.server.Core, s.store, Options{formats: slices.Concat(formats.Standard(), formats.Set{toy})})
	for _, c := range []struct {
		request, body string
		status        int
		want          string
	}{
		{"GET /api/download?bucket=B&table=t&format=toy", "", http.StatusOK, "toy {\"x\":1}\n"},
		{"GET /api/changes?bucket=B&table=t&since=0&keys=x&format=toy", "", http.StatusOK, "toy {"},
		{"POST /api/put?bucket=B&table=u&format=toy", `{"x":2}`, http.StatusOK, `"rows":1`},
		{"GET /api/download?bucket=B&table=t&format=xml", "", http.StatusBadRequest, "use csv, jsonl, parquet, arrow or toy"},
		{"POST /api/put?bucket=B&table=v&format=table", "", http.StatusBadRequest, "use csv, tsv, jsonl, parquet, arrow or toy"},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(c.body))
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
		r.Header.Set("X-Partd", "1")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: got %d %s, want %d and %s", c.request, w.Code, w.Body, c.status, c.want)
		}
		if contentType := w.Header().Get("Content-Type"); method == http.MethodGet && w.Code == http.StatusOK && contentType != "text/toy" {
			t.Errorf("%s: the content type is %s", c.request, contentType)
		}
	}
}
