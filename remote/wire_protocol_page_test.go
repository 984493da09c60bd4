package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// The tests in this file compare the tables that clients and servers share with docs/dev/wire.md. A mistake in a shared
// table remains invisible as long as both ends have it.

// wirePage returns docs/dev/wire.md in one line.
func wirePage(t *testing.T) string {
	return strings.Join(strings.Fields(string(must.Get(os.ReadFile("../docs/dev/wire.md"))(t))), " ")
}

// numbered returns the items of a list such as "1 unsupported, 2 too large", by their numbers.
func numbered(t *testing.T, list string) map[int]string {
	items := map[int]string{}
	for item := range strings.SplitSeq(list, ", ") {
		number, text, _ := strings.Cut(item, " ")
		items[must.Get(strconv.Atoi(number))(t)] = text
	}
	return items
}

// between returns the text of page between two texts.
func between(t *testing.T, page, first, end string) string {
	_, rest, found := strings.Cut(page, first)
	text, _, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("docs/dev/wire.md has no text between %q and %q", first, end)
	}
	return text
}

func TestErrorCodesOfPage(t *testing.T) {
	meanings := map[string]error{
		"unsupported": errors.ErrUnsupported, "too large": partd.ErrTooLarge, "unknown outcome": partd.ErrUnknownOutcome,
		"the store must be opened again": partd.ErrNeedsReopen, "closed": partd.ErrClosed, "no space": syscall.ENOSPC,
		"corrupt": &partd.CorruptError{Err: errors.New("damage")}, "session expired": partd.ErrSessionExpired,
		"session gap": partd.ErrSessionGap, "session reused": partd.ErrSessionReused, "no permission": fs.ErrPermission,
		"read-only": syscall.EROFS, "I/O error": syscall.EIO, "does not exist": fs.ErrNotExist, "quota": syscall.EDQUOT,
		"out of descriptors": syscall.EMFILE, "bad request": ErrBadRequest, "busy": ErrBusy, "no longer open": ErrLost,
	}
	codes := numbered(t, between(t, wirePage(t), "The codes are ", " (nothing was applied: try again later), 19 no longer open"))
	codes[19] = "no longer open"
	if len(codes) != len(errorsByCode)-1 || len(codes) != len(meanings) {
		t.Errorf("docs/dev/wire.md lists %d codes, want %d", len(codes), len(errorsByCode)-1)
	}
	for code, name := range codes {
		if got := fmt.Sprint(codesOf(meanings[name])); got != fmt.Sprintf("[%d]", code) {
			t.Errorf("the codes of the error %q are %s, want %d", name, got, code)
		}
	}
}

// pageOperation matches a row in the table of operations.
var pageOperation = regexp.MustCompile(`\| (\d+) ([a-z ]+) \| `)

func TestOperationsOfPage(t *testing.T) {
	page, got := map[int]string{}, map[int]string{}
	for _, row := range pageOperation.FindAllStringSubmatch(wirePage(t), -1) {
		page[must.Get(strconv.Atoi(row[1]))(t)] = row[2]
	}
	for op, s := range services {
		if s.prepare != nil {
			got[op] = operation(op).String()
		}
	}
	if !maps.Equal(got, page) {
		t.Errorf("operations %v, but docs/dev/wire.md has %v", got, page)
	}
}

func TestCapabilitiesOfPage(t *testing.T) {
	stores := map[string]partd.Partd{
		"set": struct {
			partd.Partd
			partd.Setter
		}{},
		"delete": struct {
			partd.Partd
			partd.Deleter
		}{},
		"keys": struct {
			partd.Partd
			partd.Lister
		}{},
		"open": struct {
			partd.Partd
			partd.Opener
		}{},
		"scan": struct {
			partd.Partd
			partd.Scanner
		}{},
		"pop": struct {
			partd.Partd
			partd.Popper
		}{},
		"flush": struct {
			partd.Partd
			partd.Flusher
		}{},
		"sync": struct {
			partd.Partd
			partd.Syncer
		}{},
		"stat": struct {
			partd.Partd
			partd.Statter
		}{},
		"keeps sessions itself": struct {
			partd.Partd
			partd.Applier
		}{},
		"divides its keys into parts itself": struct {
			partd.Partd
			partd.PartScanner
		}{},
	}
	capabilities := numbered(t, between(t, wirePage(t), "the store's capabilities (u32): ", ". A layer"))
	if len(capabilities) != len(stores) {
		t.Errorf("docs/dev/wire.md lists %d capabilities, want %d", len(capabilities), len(stores))
	}
	for bit, name := range capabilities {
		if got := abilities(stores[name]); got != uint32(bit) {
			t.Errorf("a store that can only %q has the capabilities %d, want %d", name, got, bit)
		}
	}
}

// TestRightsOfPage compares the right that each operation needs with the table of rights.
func TestRightsOfPage(t *testing.T) {
	page := between(t, wirePage(t), "| right | requests | |---|---| ", " | The answer is the same")
	named := map[string]Rights{"append": RightAppend, "change": RightChange, "admin": RightAdmin, "read": RightRead}
	want := map[string]Rights{"hello": 0, "ping": AllRights}
	var others Rights
	for row := range strings.SplitSeq(page, " | | ") {
		rights, requests, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
		var needs Rights
		for right := range strings.SplitSeq(rights, " or ") {
			needs |= named[strings.Trim(right, "*")]
		}
		requests, _, _ = strings.Cut(requests, " (")
		switch requests = strings.ReplaceAll(requests, "and ", ""); requests {
		case "all others":
			others = needs
		default:
			for request := range strings.SplitSeq(requests, ", ") {
				want[request] = needs
			}
		}
	}
	for from, to := range map[string][]string{"all pop requests": {"pop", "pop read", "pop done"}, "sessions": {"session", "end session"}} {
		for _, op := range to {
			want[op] = want[from]
		}
		delete(want, from)
	}
	for op, s := range services {
		name := operation(op).String()
		needs, listed := want[name]
		if !listed {
			needs = others
		}
		if s.prepare != nil && s.anyOf != needs {
			t.Errorf("%s needs the rights %q, but docs/dev/wire.md says %q", name, s.anyOf, needs)
		}
		delete(want, name)
	}
	if len(want) != 0 {
		t.Errorf("docs/dev/wire.md lists rights of unknown operations: %v", want)
	}
}
