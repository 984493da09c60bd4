package rest

import (
	"maps"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
)

// refsMetadata is the JSON form of table metadata with only the snapshots to which a branch or tag refers. It replaces
// the library's own type, which would first copy all snapshots.
type refsMetadata struct {
	FormatVersion       int                             `json:"format-version"`
	UUID                uuid.UUID                       `json:"table-uuid"`
	Location            string                          `json:"location"`
	LastSequenceNumber  int64                           `json:"last-sequence-number"`
	LastUpdated         int64                           `json:"last-updated-ms"`
	LastColumnID        int                             `json:"last-column-id"`
	Schemas             []*iceberg.Schema               `json:"schemas"`
	CurrentSchema       int                             `json:"current-schema-id"`
	Specs               []iceberg.PartitionSpec         `json:"partition-specs"`
	DefaultSpec         int                             `json:"default-spec-id"`
	LastPartitionID     *int                            `json:"last-partition-id,omitempty"`
	Properties          iceberg.Properties              `json:"properties,omitempty"`
	Snapshots           []*table.Snapshot               `json:"snapshots"`
	CurrentSnapshot     int64                           `json:"current-snapshot-id"`
	SnapshotLog         []table.SnapshotLogEntry        `json:"snapshot-log"`
	MetadataLog         []table.MetadataLogEntry        `json:"metadata-log,omitempty"`
	SortOrders          []table.SortOrder               `json:"sort-orders"`
	DefaultSortOrder    int                             `json:"default-sort-order-id"`
	Refs                map[string]table.SnapshotRef    `json:"refs"`
	Statistics          []table.StatisticsFile          `json:"statistics,omitempty"`
	PartitionStatistics []table.PartitionStatisticsFile `json:"partition-statistics,omitempty"`
	EncryptionKeys      []table.EncryptionKey           `json:"encryption-keys,omitempty"`
	NextRowID           *int64                          `json:"next-row-id,omitempty"`
}

// onlyRefs returns the metadata for a request with snapshots=refs. The snapshot log remains complete,
// for queries by time. Metadata in format version 1, which has other fields, is returned unchanged.
func onlyRefs(meta table.Metadata) any {
	current := meta.CurrentSnapshot()
	if current == nil || meta.Version() < 2 {
		return meta
	}
	m := refsMetadata{
		FormatVersion: meta.Version(), UUID: meta.TableUUID(), Location: meta.Location(), LastSequenceNumber: meta.LastSequenceNumber(),
		LastUpdated: meta.LastUpdatedMillis(), LastColumnID: meta.LastColumnID(), Schemas: meta.Schemas(), CurrentSchema: meta.CurrentSchema().ID,
		Specs: meta.PartitionSpecs(), DefaultSpec: meta.DefaultPartitionSpec(), LastPartitionID: meta.LastPartitionSpecID(), Properties: meta.Properties(),
		CurrentSnapshot: current.SnapshotID, SnapshotLog: slices.Collect(meta.SnapshotLogs()), MetadataLog: slices.Collect(meta.PreviousFiles()),
		SortOrders: meta.SortOrders(), DefaultSortOrder: meta.DefaultSortOrder(), Refs: maps.Collect(meta.Refs()),
		Statistics: slices.Collect(meta.Statistics()), PartitionStatistics: slices.Collect(meta.PartitionStatistics()), EncryptionKeys: slices.Collect(meta.EncryptionKeys()),
	}
	referenced := map[int64]*table.Snapshot{current.SnapshotID: current}
	for _, ref := range m.Refs {
		if s := meta.SnapshotByID(ref.SnapshotID); s != nil {
			referenced[s.SnapshotID] = s
		}
	}
	for _, id := range slices.Sorted(maps.Keys(referenced)) {
		m.Snapshots = append(m.Snapshots, referenced[id])
	}
	if meta.Version() > 2 {
		m.NextRowID = new(meta.NextRowID())
	}
	return m
}
