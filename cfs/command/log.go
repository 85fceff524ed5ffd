package command

// EntryKind says what an entry of the log carries.
type EntryKind uint8

// The kinds of entries. Their numbers are part of the log's format.
const (
	Change     EntryKind = iota // a Command, or nothing when a leader begins its term
	Membership                  // a change of the voters, encoded by the consensus
)

// Entry is one place of the replicated log.
type Entry struct {
	Index, Term uint64
	Kind        EntryKind
	Data        []byte
}

// HardState is what a voter must not forget. Commit may lag behind.
type HardState struct{ Term, Vote, Commit uint64 }

// Snapshot is the whole applied state at an index of the log. Members is encoded
// by the consensus, Tree by the tree.
type Snapshot struct {
	Index, Term uint64
	Members     []byte
	Tree        []byte
}

// Recovered is what a node knows after it has opened its database.
type Recovered struct {
	HardState HardState
	Members   []byte // as of Applied
	Applied   uint64
	// Entries after Base and up to Last are in the log. Base's term is kept.
	Base, Last uint64
}
