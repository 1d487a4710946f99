package disk

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/imgbuild/imgbuild/internal/diskformat"
	"github.com/imgbuild/imgbuild/internal/partition"
)

// withClones puts before each volume the copies that it shall have: partitions with the same bytes, which nothing mounts.
func withClones(list []*volume) []*volume {
	var all []*volume
	for _, v := range list {
		for n := range v.Clones {
			all = append(all, &volume{
				Name: fmt.Sprintf("%sclone%d", v.Name, n+1), ID: fmt.Sprintf("kiwi_%sPartClone%d", strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(v.ID, "kiwi_"), "Part")), n+1),
				Type: v.Type, CloneOf: v,
			})
		}
		all = append(all, v)
	}
	return all
}

// checkPartUUIDs refuses identifiers of partitions that the table can't hold.
func (s *settings) checkPartUUIDs(list []*volume) error {
	for i := range s.typ.Partitions {
		p := &s.typ.Partitions[i]
		if p.UUID == "" {
			continue
		}
		if s.scheme != partition.GPT {
			return p.Errorf("part_uuid", "leave it out, or use a GPT", "an msdos partition table has no identifiers of partitions")
		}
		const whole = 36 // characters
		if len(p.UUID) != whole {
			return p.Errorf("part_uuid", "it looks like 01234567-89ab-cdef-0123-456789abcdef", "a GPT has no identifier %s of a partition", p.UUID)
		}
	}
	for _, v := range list {
		v.PartUUID = strings.ToLower(v.PartUUID)
	}
	return nil
}

// adjust makes the disk as large as its format wants, and gives each copy of the root its share of a disk whose size is fixed.
func (d *design) adjust(spec *partition.Spec) error {
	small := (*partition.TooSmallError)(nil)
	if d.results[0].format.Name == "gce" {
		table, err := partition.Layout(*spec, d.ids)
		if errors.As(err, &small) {
			return d.sizeError(small)
		}
		if err != nil {
			return err
		}
		spec.DiskSize = (table.DiskSize + diskformat.GCEAlign - 1) / diskformat.GCEAlign * diskformat.GCEAlign
	}
	v := root(d.volumes)
	if v.Clones == 0 || !v.Rest || spec.DiskSize == 0 {
		return nil
	}
	least := *spec
	least.DiskSize = 0
	table, err := partition.Layout(least, d.ids)
	if err != nil {
		return err
	}
	v.Rest = false
	share := max(spec.DiskSize-table.DiskSize, 0) / int64(v.Clones+1) / partition.Align * partition.Align
	for i, other := range d.volumes {
		if other == v || other.CloneOf == v {
			other.Size = table.Partitions[i].Size + share
		}
	}
	spec.Partitions = wants(d.volumes, d.typ)
	return nil
}

// copyClones copies partitions to their copies.
func (d *design) copyClones(f *os.File) error {
	for _, v := range d.volumes {
		if v.CloneOf == nil {
			continue
		}
		if err := copyDifferent(f, d.offset(v), f, d.offset(v.CloneOf), v.Size); err != nil {
			return fmt.Errorf("copying partition %d (%s): %w", v.CloneOf.Number, v.CloneOf.Name, err)
		}
	}
	return nil
}
