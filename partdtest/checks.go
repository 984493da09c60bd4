package partdtest

import "github.com/go-partd/partd"

// check is a named subtest. needs is the ability that it requires, or empty.
type check struct {
	name  string
	needs Ability
	run   func(e *env)
}

// checks returns all checks in the order in which they run.
//
// Every comparison with the model also calls Has, Keys, Scan and Stat and checks the order of the
// chunks of a Scan or ScanPart.
func checks() []check {
	long := repeat("long key ", partd.MaxKeyLen)
	return []check{
		{"empty-key", "", distinct("", "x")},
		{"longest-key", "", distinct(long, long[:len(long)-1]+"!", "!"+long[1:], long[:len(long)-1])},
		{"key-too-long", "", keyTooLong},
		{"nul", "", distinct("a\x00b", "a", "a\x00", "\x00", "\x00a", "a\x00c", "ab")},
		{"slash", "", distinct("a/b", "a", "b", "ab", "a//b", "/", "//", "a/b/", "a/b/c", "a_b", "a%2Fb")},
		{"dot-dot", "", distinct("..", "../", "/..", "../..", "a/../b", "b")},
		{"dot", "", distinct(".", "./", "./.", "a/./b", "a/b", "...")},
		{"path-traversal", "", pathTraversal},
		{"newline", "", distinct("a\nb", "a", "b", "\n", "a\n", "a\r\n", "a\r", "a b", "a\tb")},
		{"invalid-utf8", "", distinct("\xff", "\xfe", "a\x80", "a\xc3", "a\ufffd", "\ufffd", "\xed\xa0\x80", "a")},
		{"composed-and-decomposed", "", distinct("caf\u00e9", "cafe\u0301", "cafe", "\u212b", "\u00c5", "A\u030a")},
		{"letter-case", "", distinct("Key", "key", "KEY", "kEy", "\u00c9", "\u00e9", "stra\u00dfe", "strasse", "I", "\u0131", "\u0130", "i")},
		{"internal-names", "", internalNames},
		{"escaped-and-temporary-names", "", distinct("a", "%61", "%", "%%", "%25", "%2", "a/b", "a%2Fb", "a%2fb", "a%252Fb",
			"a.tmp", ".a.tmp", "a~", "a.new", "a.1", "tmp", "a=2Fb", "a\\b", "a+b", "a b", "a!b", "a%21b")},
		{"longer-than-a-file-name", "", distinct(longKeys()...)},
		{"sanitised", "", distinct("a!b", "ab", "a\"b", "a|b", "a'b", "a,b", "a:b", "a;b", "a?b", "a*b", "a_b", "a-b", " ab", "ab ", "ab.", "AB")},
		{"key-and-directory", "", distinct("a", "a/b", "a/b/c", "a/", "b", "b/.lock", "a/b.", "c/d", "c")},
		{"key-twice-in-a-batch", "", keyTwice},
		{"nil-is-empty", "", nilIsEmpty},
		{"empty-append", "", emptyAppend},
		{"slice-changed-after-append", "", reusedMemory},
		{"empty-batch", "", emptyBatch},
		{"value-any-bytes", "", anyBytes},
		{"value-sizes", "", valueSizes},
		{"value-large", "", largeValue},
		{"value-of-many-pieces", "", manyPieces},
		{"batch-of-many-keys", "", manyKeys},
		{"batch-of-recommended-size", "", recommendedBatch},
		{"value-over-the-limit", "", func(e *env) { e.expectTooLarge(partd.MaxValueLen + 1) }},
		{"value-of-4-GiB", "", func(e *env) { e.expectTooLarge(1<<32, 1<<32+1) }},
		{"batch-over-the-limit", "", batchTooLarge},
		{"get-order", "", getOrder},
		{"get-same-key-twice", "", getTwice},
		{"get-no-keys", "", getNothing},
		{"get-missing-keys", "", getMissing},
		{"get-result-ownership", "", getOwnership},
		{"append-order", "", appendOrder},
		{"cancelled-context-changes-nothing", "", cancelledChanges},
		{"cancelled-context-reads", "", cancelledReads},
		{"drop", "", drop},
		{"set", CanSet, set},
		{"set-empty-creates-a-key", CanSet, setEmpty},
		{"set-once", CanSet, setOnce},
		{"delete", CanDelete, deleteKeys},
		{"delete-missing", CanDelete, deleteMissing},
		{"delete-then-append", CanDelete, deleteThenAppend},
		{"pop", CanPop, pop},
		{"pop-same-key-twice", CanPop, popTwice},
		{"pop-result-ownership", CanPop, popOwnership},
		{"keys-break", CanList, keysBreak},
		{"keys-body-uses-store", CanList, keysBody},
		{"keys-cancelled", CanList, keysCancelled},
		{"stat", CanStat, stat},
		{"scan-chunks", CanScan, scanChunks},
		{"scan-break", CanScan, scanBreak},
		{"scan-body-uses-store", CanScan, scanBody},
		{"scan-cancelled", CanScan, scanCancelled},
		{"scan-nested", CanScan, scanNested},
		{"scan-parts", CanScan, partsComplete},
		{"scan-parts-max", CanScan, partsMax},
		{"scan-part-wrong-number", CanScan, partInvalid},
		{"scan-part-break", CanScan, partBreak},
		{"scan-part-cancelled", CanScan, partCancelled},
		{"open", "", openStreams},
		{"open-snapshot", "", openSnapshot},
		{"open-close-early", "", openCloseEarly},
		{"flush", CanFlush, func(e *env) { e.checkKeepsContent("Flush", func() error { return partd.Flush(e.ctx, e.store) }) }},
		{"sync", CanSync, func(e *env) { e.checkKeepsContent("Sync", func() error { return partd.Sync(e.ctx, e.store) }) }},
		{"close", CanClose, opsAfterClose},
		{"close-empty", CanClose, closeUnused},
		{"close-cancelled", CanClose, closeCancelled},
		{"concurrent-append", "", concurrentAppend},
		{"concurrent-append-while-reading", "", appendWhileReading},
		{"concurrent-append-to-new-keys", "", appendToNewKeys},
		{"concurrent-drop", "", concurrentDrop},
		{"concurrent-set-once", CanSet, concurrentSetOnce},
		{"concurrent-set", CanSet, concurrentSet},
		{"concurrent-pop", CanPop, concurrentPop},
		{"concurrent-pop-of-one-value", CanPop, concurrentPopOfOneValue},
		{"concurrent-close", CanClose, concurrentClose},
		{"apply-once", CanApply, applyOnce},
		{"apply-wrong-numbers", CanApply, applyWrongNumbers},
		{"apply-invalid-operation", CanApply, applyInvalid},
		{"apply-expired-session", CanApply, applyExpired},
		{"apply-drop-keeps-sessions", CanApply, applyDrop},
		{"apply-sessions-are-separate", CanApply, applySessions},
		{"concurrent-apply-of-one-number", CanApply, concurrentApplyOfOneNumber},
		{"concurrent-apply", CanApply, concurrentApply},
		{"apply-reopen", CanApply, applyReopen},
		{"reopen", "", reopenRepeatedly},
		{"reopen-after-close", "", reopenAfterClose},
	}
}

// distinct returns a check that the keys share no data.
func distinct(keys ...string) func(e *env) { return func(e *env) { e.checkDistinct(keys) } }
