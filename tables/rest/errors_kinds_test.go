package rest

import (
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestKinds checks that answers have the status, the type, the kinds and the fields of each kind of error, whatever its
// text is.
func TestKinds(t *testing.T) {
	store := must.Get(tables.Open(t.Context(), t.TempDir(), nil))(t)
	defer store.Close()
	h := &handler{server: must.Get(flightd.New(store, nil))(t).Core, store: store}
	for word, err := range tabletest.KindErrors() {
		w, want := httptest.NewRecorder(), kinds.Of(err)
		h.fail(w, err)
		var body struct {
			Error struct {
				Message, Type string
				Code          int
			}
		}
		must.Do(t, json.Unmarshal(w.Body.Bytes(), &body))
		if e := body.Error; w.Code != want.REST || e.Code != want.REST || e.Type != want.Iceberg || e.Message == "" {
			t.Errorf("%s: got %d %s, want %d and type %s", word, w.Code, w.Body, want.REST, want.Iceberg)
		}
		if got := kinds.Parse(w.Header().Get(kinds.Header)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the header is %q, want %+v", word, w.Header(), want)
		}
	}
}
