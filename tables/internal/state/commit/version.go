package commit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// newVersion returns the version for an append: the number of the next snapshot that no commit in progress can take. It
// returns 0 in Iceberg's format version 1, which does not number snapshots. e.mu must be held.
func (e *current) newVersion() int64 {
	if e.state.last < 0 {
		return 0
	}
	return max(e.nextVersion, e.state.last+1)
}

// IsPending reports whether a put whose rows are in the tail returned the version.
func (e *current) IsPending(ctx context.Context, version int64) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.load(ctx); err != nil || e.log == nil {
		return false, err
	}
	return slices.Contains(e.log.Versions(e.state.folded, lastEpoch), version), nil
}

// isPromised is like IsPending, but does not load the table.
func (e *current) isPromised(version int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log != nil && slices.Contains(e.log.Versions(e.state.folded, lastEpoch), version)
}

// reserveFold prevents appends during a fold up to the given epoch from taking versions that the fold needs. versions
// lists the versions that the folded puts returned; parts is the number of snapshots that the fold adds. first is the
// version that the first snapshot gets if it is free. e.mu must be held.
func (e *current) reserveFold(epoch int64, versions []int64, parts int64) (first int64) {
	e.foldedEpoch = epoch + 1
	e.nextVersion = max(e.nextVersion, highest(versions)+2*parts-1, e.state.last+parts+1)
	first = highest(versions)
	if parts > 1 {
		first++ // the version that the puts returned must contain all parts
	}
	return first
}

// endFold undoes the part of reserveFold that applies only during the fold.
func (e *current) endFold() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.foldedEpoch = 0
}

// reserve prepares the commit of a change to cur, so that its snapshots do not take a version that an append returned.
// If the change is Plain, concurrent appends return versions after those of these snapshots.
func (a *Attempt) reserve(cur *table.Table) (*table.Table, error) {
	if cur == nil || a.tables.Tail == nil || cur.Metadata().Version() < 2 {
		return cur, nil
	}
	if a.modes == Plain { // otherwise, tryCommit has locked a.mu
		a.mu.Lock()
		defer a.mu.Unlock()
	}
	last := cur.Metadata().LastSequenceNumber()
	next := last + int64(len(a.steps))
	if a.log != nil {
		a.versions = a.log.Versions(max(a.state.folded, a.foldedEpoch-1), lastEpoch)
	}
	high := highest(a.versions)
	if a.modes == Plain {
		a.nextVersion = max(a.nextVersion, high+1, next+1)
	}
	switch {
	case len(a.versions) == 0 || a.Unfolded, a.modes&Folds == 0 && a.versions[0] > next:
		return cur, nil
	case a.modes&Folds != 0: // the change's first snapshot contains the rows, so it can have the version that the last put returned
		return a.skipVersions(cur, high-1)
	}
	if a.modes == Plain {
		a.nextVersion = max(a.nextVersion, high+int64(len(a.steps))+1)
	}
	return a.skipVersions(cur, high)
}

// skipVersions returns t with its highest version number in use raised to at least last.
func (a *Attempt) skipVersions(t *table.Table, last int64) (*table.Table, error) {
	if t.Metadata().Version() < 2 || t.Metadata().LastSequenceNumber() >= last {
		return t, nil
	}
	meta, err := EditMetadata(t.Metadata(), map[string]any{"last-sequence-number": last})
	if err != nil {
		return nil, err
	}
	return a.Table(meta), nil
}

// EditMetadata returns a copy of meta with some fields of its JSON form set to the given values. A nil value removes
// the field.
func EditMetadata(meta table.Metadata, values map[string]any) (table.Metadata, error) {
	b, err := json.Marshal(meta)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, err
	}
	for k, v := range values {
		fields[k], err = json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if v == nil {
			delete(fields, k)
		}
	}
	b, err = json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return table.ParseMetadataBytes(b)
}

// describe records the time of the oldest change in the attempt's last snapshot if the attempt added several snapshots
// or removed rows from the tail, because no reader saw a state in between. It also prevents later snapshots from
// getting a version that the puts of the removed rows returned.
func (a *Attempt) describe(meta table.Metadata) (table.Metadata, error) {
	if a.initial == nil || a.initial.Metadata().TableUUID() != meta.TableUUID() {
		return meta, nil
	}
	edits := map[string]any{}
	if high := highest(a.versions); a.epoch != nil && high > meta.LastSequenceNumber() {
		edits["last-sequence-number"] = high
	}
	var oldest time.Time // the time of the oldest row that the attempt removes from the tail
	if a.epoch != nil {
		_, _, oldest, _ = a.log.Size(a.state.folded)
	}
	snapshots := slices.Clone(meta.Snapshots())
	first := slices.IndexFunc(snapshots, func(s table.Snapshot) bool { return a.initial.SnapshotByID(s.SnapshotID) == nil })
	if first >= 0 {
		s := &snapshots[len(snapshots)-1]
		if _, isFold := number(s, rowsUntil); !isFold && s.Summary != nil && (first < len(snapshots)-1 || !oldest.IsZero()) {
			from := time.UnixMilli(snapshots[first].TimestampMs)
			props := maps.Clone(s.Summary.Properties)
			if !oldest.IsZero() && oldest.Before(from) {
				from = oldest
			}
			if a.hasTailRows {
				own := func(v int64) bool { return v >= snapshots[first].SequenceNumber }
				maps.Copy(props, promised(slices.DeleteFunc(slices.Clone(a.versions), own), s.SequenceNumber))
			}
			props[rowsFrom] = millis(from)
			s.Summary = &table.Summary{Operation: s.Summary.Operation, Properties: props}
			edits["snapshots"] = snapshots
		}
	}
	if len(edits) == 0 {
		return meta, nil
	}
	return EditMetadata(meta, edits)
}

// promised returns the properties of a snapshot that list versions, the versions that its puts returned, except for
// version, its own number.
func promised(versions []int64, version int64) iceberg.Properties {
	var others []string
	for _, v := range versions {
		if v != version {
			others = append(others, strconv.FormatInt(v, 10))
		}
	}
	if others == nil {
		return nil
	}
	return iceberg.Properties{putVersions: strings.Join(others, ",")}
}

// highest returns the last of the versions, or 0 if there are none.
func highest(versions []int64) int64 {
	if len(versions) == 0 {
		return 0
	}
	return versions[len(versions)-1]
}

// SnapshotOf returns the snapshot that has the given version number or the rows of the puts that returned this number.
// It returns nil if there is no such snapshot, and an error if there are two.
func SnapshotOf(meta table.Metadata, version int64) (found *table.Snapshot, err error) {
	name := strconv.FormatInt(version, 10)
	for _, s := range meta.Snapshots() {
		if s.SequenceNumber != version && !slices.Contains(putVersionsOf(&s), name) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("version %d is ambiguous, because another commit took its number while rows were in the tail: version %d contains these rows", version, s.SequenceNumber)
		}
		found = &s
	}
	return found, nil
}

// IsAmbiguous returns a function that reports whether SnapshotOf returns an error for the version of a snapshot.
func IsAmbiguous(meta table.Metadata) func(version int64) bool {
	put := map[string]bool{}
	for _, s := range meta.Snapshots() {
		for _, v := range putVersionsOf(&s) {
			put[v] = true
		}
	}
	return func(version int64) bool { return put[strconv.FormatInt(version, 10)] }
}

func putVersionsOf(s *table.Snapshot) []string {
	return strings.Split(icecat.SummaryOf(s)[putVersions], ",")
}
