package page

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestKinds checks that the answers to the page and to clients of InfluxDB have the status, the kinds and the fields of
// each kind of error, whatever its text is.
func TestKinds(t *testing.T) {
	s := serve(t, flightd.Options{})
	h := &handler{server: s.server.Core, opts: s.server.Options()}
	for word, err := range tabletest.KindErrors() {
		want := kinds.Of(err)
		influxStatus := want.HTTP
		if want.Influx == "unavailable" {
			influxStatus = http.StatusServiceUnavailable
		}
		for name, face := range map[string]struct {
			fail   func(http.ResponseWriter, error)
			status int
		}{"page": {h.fail, want.HTTP}, "line protocol": {h.failInflux, influxStatus}} {
			w := httptest.NewRecorder()
			face.fail(w, err)
			var text struct{ Error, Code string }
			must.Do(t, json.Unmarshal(w.Body.Bytes(), &text))
			got := kinds.Parse(w.Body.String())
			if w.Code != face.status || text.Error == "" || got == nil || !slices.Equal(got.Kinds, want.Kinds) || got.Retry != want.Retry {
				t.Fatalf("%s: %s answered %d %s, want %d with kinds %q", word, name, w.Code, w.Body, face.status, want.Kinds)
			}
			if fields := must.Get(json.Marshal(want.Fields))(t); !bytes.Equal(must.Get(json.Marshal(got.Fields))(t), fields) {
				t.Errorf("%s: %s answered %s, want the fields %s", word, name, w.Body, fields)
			}
			if isInflux := name != "page"; isInflux != (text.Code != "") {
				t.Errorf("%s: %s answered %s, want a code only for InfluxDB's clients", word, name, w.Body)
			}
		}
	}
}
