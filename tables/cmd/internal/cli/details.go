package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/pull"
)

// unknownFormat is the error for a file whose name does not indicate its format.
type unknownFormat struct {
	error
	formats string // the names of the formats that can be read
}

func (e unknownFormat) Unwrap() error { return e.error }

// addDetails adds to object, the JSON form of err, the details that a server would send to its clients. It returns all
// kinds of err, the most important first. It removes the prefix of package pull from the message.
func addDetails(err error, words []string, object map[string]any) []string {
	details := kinds.Of(err)
	encoded, _ := json.Marshal(details) // cannot fail
	_ = json.Unmarshal(encoded, &object)
	delete(object, "retry") // it describes only calls to servers
	var all []string
	for _, k := range []struct {
		word string
		err  error
	}{{"not_per_key", duck.ErrNotPerKey}, {"conflict", pull.ErrConflict}, {"sync_failed", pull.ErrSyncFailed}} {
		if errors.Is(err, k.err) {
			all = append(all, k.word)
		}
	}
	if e, ok := errors.AsType[unknownFormat](err); ok {
		all = append(all, "unknown_format")
		object["formats"] = e.formats
	}
	if errors.As(err, new(*schema.Error)) { // package bulk returns such an error unconverted
		all = append(all, kinds.Schema.Word)
	}
	if e, ok := errors.AsType[*pull.Error](err); ok {
		object["error"] = strings.TrimPrefix(fmt.Sprint(object["error"]), fmt.Sprintf("pull: %s %q: ", e.Op, e.Name))
	}
	for _, word := range slices.Concat(details.Kinds, words) {
		if !slices.Contains(all, word) && word != kinds.Internal.Word {
			all = append(all, word)
		}
	}
	return all
}
