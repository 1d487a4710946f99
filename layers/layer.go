package layers

import (
	"fmt"

	"github.com/opencontainers/go-digest"
)

// EntryKind says what an [Entry] of a layer does.
type EntryKind uint8

const (
	// Put places Entry.Node at Entry.Name. A directory already there keeps its entries if the node is a directory; anything else is
	// replaced with all below it. Entries of one layer that hold the same *Node are hard links of each other.
	Put EntryKind = iota

	// Whiteout takes what earlier layers have at Entry.Name away, with all below it. What the same layer puts there stays. In a tar it is
	// an empty file ".wh.NAME" (OCI image-spec, layer.md, "Whiteouts").
	Whiteout

	// Opaque takes away what earlier layers have below the directory Entry.Name, but not the directory. In a tar it is an empty file
	// ".wh..wh..opq" in that directory (OCI image-spec, layer.md, "Opaque Whiteout").
	Opaque

	// Link makes Entry.Name a hard link of Entry.Target, a name that only earlier layers hold.
	Link
)

// String names the kind in plain words.
func (k EntryKind) String() string {
	switch k {
	case Put:
		return "put"
	case Whiteout:
		return "whiteout"
	case Opaque:
		return "opaque directory"
	case Link:
		return "hard link"
	}
	return fmt.Sprintf("entry kind %d", uint8(k))
}

// Entry is one step of a layer.
type Entry struct {
	Kind   EntryKind
	Name   string // as trees use it: no leading slash, no "..", "." for the root directory; of a Whiteout, the name it hides
	Node   *Node  // of a Put: the entry without children, also when it is a directory
	Target string // of a Link
}

// Layer is a change set: what turns the tree of the layers below it into a new tree. A Layer is a value; it does not change once made.
//
// Entries are in the order in which they are applied. Layers that this package makes have them sorted so that parents come first
// and a whiteout comes before what is put in its place; foreign layers keep the order of their tar.
type Layer struct {
	Entries []Entry

	// Digest and Size are those of the blob as it lies in a store or registry, DiffID and TarSize those of the uncompressed
	// tar. Empty and zero for a layer that was made by comparing trees and not packed yet.
	Digest, DiffID digest.Digest
	Size, TarSize  int64

	// Source is the blob that the contents of Entries lie in, each as a [*BlobContent]; nil for a layer that is not packed yet.
	Source *BlobSource
}

// Counts says how many entries of each kind a layer has.
func (l *Layer) Counts() (puts, whiteouts, opaques, links int) {
	for i := range l.Entries {
		switch l.Entries[i].Kind {
		case Put:
			puts++
		case Whiteout:
			whiteouts++
		case Opaque:
			opaques++
		case Link:
			links++
		}
	}
	return
}

// DataSize is how many bytes of data, without holes, the layer's files have; a file counts once however many names it has.
func (l *Layer) DataSize() (n int64) {
	seen := map[*Node]struct{}{}
	for i := range l.Entries {
		node := l.Entries[i].Node
		if node == nil || !node.IsRegular() {
			continue
		}
		if _, ok := seen[node]; !ok {
			seen[node] = struct{}{}
			n += node.DataSize()
		}
	}
	return n
}

// HostID identifies the state of a file on this machine: as long as it is equal, its content and metadata are unchanged. It is kept
// for entries that [ScanDir] found, so that [Changes] need not read every file again.
type HostID struct {
	Dev, Ino     uint64
	CTime, MTime Timespec
	Size         int64
}

// sameState reports whether two states are those of one unchanged file. The number of the device need not be the same, since many file systems get another one
// each time they are mounted; that another file on another device has the same number and was changed in the same nanosecond is out of the
// question, except where the file system counts seconds.
func (h *HostID) sameState(other *HostID) bool {
	return h.Ino == other.Ino && h.CTime == other.CTime && h.MTime == other.MTime && h.Size == other.Size &&
		(h.Dev == other.Dev || h.CTime.Nsec != 0)
}

// FormatError says that a layer or its compression can't be understood.
type FormatError struct {
	Layer digest.Digest // "" if not known
	Path  string        // the entry, "" if it is not about one
	Err   error
}

// Error implements error.
func (e *FormatError) Error() string { return describe("reading", e.Layer, e.Path, e.Err.Error()) }

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// HostileError says that a layer asks for something that no honest layer needs: to reach outside of the root tree, or to use up this machine's
// memory or disk. Nothing of it has been done.
type HostileError struct {
	Layer  digest.Digest // "" if not known
	Path   string        // the entry's name as the layer has it
	Reason string
}

// Error implements error.
func (e *HostileError) Error() string { return describe("refusing", e.Layer, e.Path, e.Reason) }

func describe(verb string, layer digest.Digest, path, reason string) string {
	text := verb + " layer"
	if layer != "" {
		text += " " + layer.String()
	}
	if path != "" {
		text += fmt.Sprintf(", entry %q", clipped(path))
	}
	return text + ": " + reason
}

// clipped is as much of a name as an error shows: a hostile one may have megabytes.
func clipped(name string) string {
	const most = 1024
	if len(name) <= most {
		return name
	}
	return name[:most/2] + "..." + name[len(name)-most/2:]
}
