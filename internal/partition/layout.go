package partition

import (
	"fmt"

	"github.com/imgbuild/imgbuild/internal/repro"
)

// Align is what starts and sizes of partitions are rounded to: 1 MiB.
const Align int64 = 1 << 20

// Want is a partition that a disk shall have.
type Want struct {
	Name       string
	Type       Type
	Size       int64  // at least this many bytes; rounded up to Align
	Rest       bool   // takes what is left of a disk of fixed size; at most one, the last
	GUID       string // empty: derived
	Attributes uint64
	Boot       bool
	Hybrid     bool // in a GPT: the MBR shows it too
}

// Spec says what disk to lay out.
type Spec struct {
	Scheme     Scheme
	SectorSize int64 // 0: 512
	FirstStart int64 // first byte of the first partition; 0: Align
	DiskSize   int64 // length of the disk; 0: as large as needed
	// Unpartitioned is how many bytes at the end of the disk no partition takes.
	Unpartitioned int64
	// Logical puts the fourth and later partitions of an MBR into an extended one.
	Logical    bool
	Partitions []Want
}

// TooSmallError says that the wanted partitions don't fit a disk of the wanted size.
type TooSmallError struct {
	Have, Need int64 // bytes
}

// Error implements error.
func (e *TooSmallError) Error() string {
	return fmt.Sprintf("the disk size of %d MiB is too small: at least %d MiB are needed", e.Have>>20, (e.Need+(1<<20)-1)>>20)
}

// Layout places the wanted partitions one after the other in the order given, with GUIDs and signature from ids. A disk that is too small
// is a *[TooSmallError].
func Layout(spec Spec, ids repro.Source) (*Plan, error) {
	p := &Plan{Scheme: spec.Scheme, SectorSize: spec.SectorSize, Signature: ids.Uint32("disk signature")}
	if p.SectorSize == 0 {
		p.SectorSize = 512
	}
	if p.Scheme == GPT {
		p.DiskGUID = ids.UUID("disk")
	}
	at := spec.FirstStart
	if at == 0 {
		at = Align
	}
	if p.Scheme == MBR && len(spec.Partitions) > 4 && !spec.Logical {
		return nil, fmt.Errorf("an MBR partition table holds 4 partitions, %d are wanted: use a GPT (efiparttable=\"gpt\") or dosparttable_extended_layout=\"true\"", len(spec.Partitions))
	}
	for i, want := range spec.Partitions {
		q := Partition{Number: i + 1, Name: want.Name, Type: want.Type, Attributes: want.Attributes, Boot: want.Boot, Size: roundUp(max(want.Size, 1), Align)}
		if p.Scheme == GPT {
			if q.GUID = want.GUID; q.GUID == "" {
				q.GUID = ids.UUID("partition " + want.Name)
			}
		}
		if p.Scheme == MBR && spec.Logical && len(spec.Partitions) > 4 && i >= 3 {
			q.Logical, q.Number = true, i+2
			at += Align // room for the extended boot record
		}
		if want.Hybrid && p.Scheme == GPT {
			p.Hybrid = append(p.Hybrid, q.Number)
		}
		q.Start = at
		at = q.End()
		p.Partitions = append(p.Partitions, q)
	}
	if err := p.fit(spec, at); err != nil {
		return nil, err
	}
	return p, p.Validate()
}

// fit settles the disk's size and gives what is left to the last partition if it wants it. end is where the last partition ends.
func (p *Plan) fit(spec Spec, end int64) error {
	tail := int64(0)
	if p.Scheme == GPT {
		tail = Align // for the backup table
	}
	need := end + tail + roundUp(spec.Unpartitioned, Align)
	p.DiskSize = spec.DiskSize
	if p.DiskSize == 0 {
		p.DiskSize = need
		return nil
	}
	p.DiskSize = roundUp(p.DiskSize, Align)
	if p.DiskSize < need {
		return &TooSmallError{Have: spec.DiskSize, Need: need}
	}
	if n := len(p.Partitions); n > 0 && spec.Partitions[n-1].Rest {
		p.Partitions[n-1].Size += p.DiskSize - need
	}
	return nil
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
