package partdtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

var _ interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Lister
	partd.Opener
	partd.Scanner
	partd.PartScanner
	partd.Popper
	partd.Flusher
	partd.Syncer
	partd.Statter
	partd.Applier
} = (*reference)(nil)

func openFaulty(fault string) func(t *testing.T) partd.Partd {
	return func(*testing.T) partd.Partd { return newReference(fault) }
}

func reopen(_ *testing.T, store partd.Partd) partd.Partd { return reopened(store) }

var allAbilities = []Ability{CanSet, CanDelete, CanPop, CanList, CanHas, CanOpen, CanScan, CanFlush, CanSync, CanStat, CanApply, CanClose}

func TestReferencePasses(t *testing.T) {
	Run(t, openFaulty(""), &Options{Reopen: reopen, Require: allAbilities})
}

// bare hides every ability of a store.
type bare struct{ partd.Partd }

func TestStoreWithoutAbilitiesPasses(t *testing.T) {
	Run(t, func(*testing.T) partd.Partd { return bare{newReference("")} }, &Options{LargeValue: 1 << 20, Pieces: 10, InternalNames: []string{"own"}})
}

func TestOnlyStateMachine(t *testing.T) {
	opened := 0
	StateMachine(t, func(*testing.T) partd.Partd {
		opened++
		return newReference("")
	}, &Options{Reopen: reopen, MachineRuns: 10})
	if opened < 10 || opened > 12 {
		t.Errorf("MachineRuns 10 opened %d stores, want 10 to 12", opened)
	}
}

// TestCheckRunsAlone runs a single check, as with -run. The store's abilities must be probed even then.
func TestCheckRunsAlone(t *testing.T) {
	failed := failuresOf(t, withShortWaits(newSuite(openFaulty("Set appends"), nil)), "set")
	if failed.messages["set"] == "" || len(failed.messages) != 1 {
		t.Errorf("running only the check of Set failed with %q, want one failure of set", failed.messages)
	}
}

// TestFaultsAreCaught runs the suite on stores that each have one fault. The named checks must fail,
// and at least one of their messages must contain the given words.
func TestFaultsAreCaught(t *testing.T) {
	for _, c := range []struct{ fault, checks, words string }{
		{"drops an append", "append-order concurrent-append state-machine", "want"},
		{"drops a key's second entry in a batch", "key-twice-in-a-batch", "in the batch's order"},
		{"repeats an append", "append-order concurrent-append state-machine", "want"},
		{"prepends", "append-order key-twice-in-a-batch value-of-many-pieces concurrent-append state-machine", "appends in order"},
		{"keeps the caller's key", "slice-changed-after-append", "reused the memory of a key"},
		{"changes the caller's values", "append-order state-machine", `must not change the values that it receives: afterwards: 1 bytes, want 1; the first difference is at byte 0: "\xcf", want "0"`},
		{"keeps the caller's slice", "slice-changed-after-append state-machine", "reused the slices"},
		{"returns its own memory", "get-result-ownership state-machine", "changed the result of Get"},
		{"returns the same memory twice", "get-same-key-twice", "same memory"},
		{"Get sorts its keys", "get-order state-machine", "order of the requested keys"},
		{"Get creates keys", "get-missing-keys", "Get creates no key"},
		{"an empty append creates a key", "nil-is-empty empty-append state-machine", "creates no key"},
		{"folds case", "letter-case sanitised state-machine", "want"},
		{"sanitises", "sanitised escaped-and-temporary-names state-machine", "want"},
		{"cuts at nul", "nul", "want"},
		{"makes valid utf-8", "invalid-utf8", "want"},
		{"cuts long keys", "longest-key longer-than-a-file-name state-machine", "want"},
		{"cleans paths", "slash dot", "want"},
		{"has no limit", "key-too-long", "ErrTooLarge"},
		{"applies half of rejected appends", "key-too-long value-over-the-limit value-of-4-GiB batch-over-the-limit", "change nothing"},
		{"ignores the context", "cancelled-context-changes-nothing", "context.Canceled"},
		{"returns no cause", "cancelled-context-changes-nothing", "and the cause"},
		{"returns only the cause", "cancelled-context-changes-nothing", "context.Canceled"},
		{"adopts the cause's outcome", "cancelled-context-changes-nothing", "not the ErrUnknownOutcome in the cause"},
		{"loses under concurrency", "concurrent-append concurrent-append-while-reading", "lost"},
		{"tears under concurrency", "concurrent-append-while-reading concurrent-append", "does not begin a whole append"},
		{"ignores Drop", "drop", "after Drop"},
		{"Drop leaves a key", "drop batch-of-many-keys", "after Drop"},
		{"Drop restores old data", "concurrent-drop", "which a Drop should have removed"},
		{"SetOnce overwrites", "set-once concurrent-set-once state-machine", "SetOnce keeps"},
		{"SetOnce overwrites empty values", "set-once", "SetOnce keeps an empty value"},
		{"SetOnce races", "concurrent-set-once", "one winner"},
		{"Set appends", "set state-machine", "Set to"},
		{"Set to empty deletes", "set-empty-creates-a-key nil-is-empty", "creates a key"},
		{"Set is torn", "concurrent-set", "is not a set value"},
		{"Delete of a missing key fails", "abilities", "no key"},
		{"Delete also removes the next key", "key-and-directory", "want"},
		{"Pop races", "concurrent-pop concurrent-pop-of-one-value", "all Pops"},
		{"recommends batches without bytes", "batch-of-recommended-size", "at least one byte"},
		{"recommends batches that it rejects", "batch-of-recommended-size", "too large"},
		{"Pop leaves the key", "pop state-machine", "Pop removes the keys"},
		{"Open reads later", "open-snapshot state-machine", "opened before"},
		{"Stat counts keys' bytes", "stat state-machine", "stat:"},
		{"Flush forgets", "flush state-machine", "Flush must change nothing"},
		{"works when closed", "close", "ErrClosed"},
		{"second Close fails", "close", "second Close"},
		{"stays open after a failed Flush", "close-cancelled", "want ErrClosed"},
		{"forgets on reopen", "reopen reopen-after-close concurrent-close state-machine", "reopening"},
		{"Keys hides empty values", "set-empty-creates-a-key", "is missing"},
		{"Keys has wrong sizes", "stat", "has size"},
		{"Keys duplicates", "slash state-machine", "twice"},
		{"Keys locks", "keys-body-uses-store", "deadlock"},
		{"Scan hides empty values", "scan-chunks set-empty-creates-a-key", "must be one chunk, not 0"},
		{"Scan misses Last", "scan-chunks slash state-machine", "Last chunk"},
		{"Scan has Last twice", "scan-chunks value-large", "again after its Last"},
		{"Scan has wrong offsets", "scan-chunks value-large", "at offset"},
		{"Scan swallows the end", "scan-chunks value-large", "want"},
		{"Scan continues after an error", "cancelled-context-reads", "continues after the error"},
		{"ScanPart accepts any number", "scan-part-wrong-number", "one error without data"},
		{"ScanPart continues after a wrong number", "scan-part-wrong-number", "one error without data"},
		{"ScanPart omits a key", "scan-parts", "is missing"},
		{"ScanPart has a key in two parts", "scan-parts", "in another part"},
		{"ScanPart puts all into one part", "scan-parts", "leaves too few"},
		{"ScanPart divides differently each time", "scan-parts", "part"},
		{"ScanPart counts parts in 16 bits", "scan-parts-max", "is missing"},
		{"Scan misses Last", "scan-part-break", "Last chunk"},
		{"ignores the context", "scan-part-cancelled", "cancelled"},
		{"Scan leaks a goroutine", "leaks", "goroutines"},
		{"applies again", "apply-once concurrent-apply concurrent-apply-of-one-number apply-drop-keeps-sessions apply-sessions-are-separate apply-reopen", "want false"},
		{"accepts a gap", "apply-wrong-numbers apply-reopen", "earlier operation"},
		{"accepts a reused number", "apply-wrong-numbers apply-reopen", "belongs to another"},
		{"accepts a forgotten session", "apply-expired-session apply-reopen", "session is over"},
		{"rejected operations use up their number", "apply-invalid-operation", "want an error"},
		{"issues a session twice", "apply-sessions-are-separate apply-expired-session", "issued"},
		{"EndSession does nothing", "apply-expired-session", "session is over"},
		{"Drop forgets sessions", "apply-once apply-drop-keeps-sessions", "want false"},
		{"Apply races", "concurrent-apply-of-one-number", "returned true to"},
		{"forgets sessions on reopen", "apply-reopen", "returned false"},
		{"forgets numbers on reopen", "apply-reopen", "want false"},
		{"Scan breaks the store", "scan-break scan-body-uses-store", "deadlock"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			if c.checks != "leaks" { // the check counts the goroutines of all tests
				t.Parallel()
			}
			checks := strings.Fields(c.checks)
			failed := failuresOf(t, withShortWaits(newSuite(openFaulty(c.fault), &Options{Reopen: reopen})), append(checks, "abilities", "scan-chunks")...)
			hasWords := false
			for _, name := range checks {
				if failed.messages[name] == "" {
					t.Errorf("the check %s did not fail", name)
				}
				hasWords = hasWords || strings.Contains(failed.messages[name], c.words)
			}
			if !hasWords {
				t.Errorf("no failure contains %q: %q", c.words, failed.messages)
			}
		})
	}
}

// TestReferenceHasNoFailures checks that no check fails without a fault, and that all checks run.
func TestReferenceHasNoFailures(t *testing.T) {
	failed := failuresOf(t, withShortWaits(newSuite(openFaulty(""), &Options{Reopen: reopen, Require: allAbilities})))
	if len(failed.messages) != 0 {
		t.Fatalf("checks of a correct store failed: %q", failed.messages)
	}
	for name := range strings.FieldsSeq(`empty-key longest-key key-too-long nul slash dot-dot dot path-traversal newline invalid-utf8
		composed-and-decomposed letter-case internal-names escaped-and-temporary-names longer-than-a-file-name sanitised key-and-directory
		key-twice-in-a-batch nil-is-empty empty-append value-over-the-limit value-of-4-GiB batch-over-the-limit
		slice-changed-after-append empty-batch`) {
		if _, ran := failed.ran[name]; !ran {
			t.Errorf("the check %s did not run", name)
		}
	}
}

// unsupportedSetter returns ErrUnsupported from Set, although it sets the value.
type unsupportedSetter struct{ bare }

func (h unsupportedSetter) SetOnce(ctx context.Context, key string, value []byte) error {
	return errors.ErrUnsupported
}

func (h unsupportedSetter) Set(ctx context.Context, key string, value []byte) error {
	return errors.Join(errors.ErrUnsupported, partd.Set(ctx, h.Partd, key, value))
}

func TestMissingAbilities(t *testing.T) {
	open := func(*testing.T) partd.Partd { return bare{newReference("")} }
	failed := failuresOf(t, withShortWaits(newSuite(open, &Options{Require: []Ability{CanScan, CanOpen}})), "abilities")
	if m := failed.messages["abilities"]; !strings.Contains(m, "cannot scan") {
		t.Errorf("without a required ability, the failure is %q, want one that names it", m)
	}
	open = func(*testing.T) partd.Partd { return unsupportedSetter{bare{newReference("")}} }
	failed = failuresOf(t, withShortWaits(newSuite(open, nil)), "abilities")
	if m := failed.messages["abilities"]; !strings.Contains(m, "has an effect") {
		t.Errorf("with an unsupported Set that has an effect, the failure is %q, want one that mentions the effect", m)
	}
}

// inDir is a faulty store that creates a file in dir for each key, named by the key and ".own". If
// inside is true, it loses the key "secret.own", as if this were one of its own files. Otherwise, it
// creates files outside the directory for keys that begin with "../".
type inDir struct {
	bare
	dir    string
	inside bool
}

func (d *inDir) Append(ctx context.Context, entries ...partd.Entry) error {
	var remaining []partd.Entry
	for _, e := range entries {
		name := filepath.Base(e.Key) + ".own"
		if !d.inside && strings.HasPrefix(e.Key, "../") {
			name = filepath.Join("..", filepath.Base(e.Key))
		}
		if len(name) < 200 && !strings.ContainsRune(name, 0) {
			_ = os.WriteFile(filepath.Join(d.dir, name), nil, 0o666)
		}
		if strings.HasSuffix(e.Key, "secret.own") && d.inside {
			continue
		}
		remaining = append(remaining, e)
	}
	return d.Partd.Append(ctx, remaining...)
}

func TestDirOption(t *testing.T) {
	for _, c := range []struct {
		inside                    bool
		check, passingCheck, word string
	}{
		{true, "internal-names", "path-traversal", "secret.own"},
		{false, "path-traversal", "internal-names", "outside"},
	} {
		open := func(t *testing.T) partd.Partd {
			return &inDir{bare{newReference("")}, filepath.Join(mkdir(t, "parent"), "store"), c.inside}
		}
		dir := func(store partd.Partd) string { return store.(*inDir).dir }
		failed := failuresOf(t, withShortWaits(newSuite(open, &Options{Dir: dir, InternalNames: []string{"secret"}})), "abilities", c.check, c.passingCheck)
		if m := failed.messages[c.check]; !strings.Contains(m, c.word) {
			t.Errorf("the failure of %s is %q, want one with %q", c.check, m, c.word)
		}
		if m := failed.messages[c.passingCheck]; m != "" {
			t.Errorf("%s failed with %q", c.passingCheck, m)
		}
	}
}

func mkdir(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	must.Do(t, os.MkdirAll(filepath.Join(dir, "store"), 0o777))
	return dir
}
