package rpm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// rpm's own database, as SUSE uses it: Packages.db. Its format is described in rpm's lib/backend/ndb/rpmpkg.c: pages of slots, each with the
// place of a package's header, which lies in the file as a blob with a head and a tail. Numbers are little-endian.
const (
	ndbMagic     = "RpmP"
	ndbSlotMagic = "Slot"
	ndbBlobMagic = "BlbS"

	ndbPageSize = 4096
	ndbSlotSize = 16 // magic, package index, offset in blocks, length in blocks
	ndbHeadSize = 32 // of the file, in the place of two slots
	ndbBlock    = 16 // the unit of offsets
	ndbBlobHead = 16 // magic, package index, generation, length of the header in bytes
)

var errNDB = errors.New("the package database Packages.db is damaged")

// readNDB calls each with the header of every package.
func readNDB(data []byte, each func(blob []byte) error) error {
	if len(data) < ndbPageSize || string(data[:4]) != ndbMagic || binary.LittleEndian.Uint32(data[4:]) != 0 {
		return fmt.Errorf("%w: it has no header", errNDB)
	}
	pages := int64(binary.LittleEndian.Uint32(data[12:]))
	if pages*ndbPageSize > int64(len(data)) {
		return fmt.Errorf("%w: it tells of %d pages of slots", errNDB, pages)
	}
	for slots := data[ndbHeadSize : pages*ndbPageSize]; len(slots) >= ndbSlotSize; slots = slots[ndbSlotSize:] {
		if string(slots[:4]) != ndbSlotMagic {
			return fmt.Errorf("%w: a slot has no magic", errNDB)
		}
		index, offset := binary.LittleEndian.Uint32(slots[4:]), int64(binary.LittleEndian.Uint32(slots[8:]))*ndbBlock
		if index == 0 || offset == 0 {
			continue // free
		}
		if offset+ndbBlobHead > int64(len(data)) {
			return fmt.Errorf("%w: package %d lies outside of it", errNDB, index)
		}
		blob := data[offset:]
		if string(blob[:4]) != ndbBlobMagic || binary.LittleEndian.Uint32(blob[4:]) != index {
			return fmt.Errorf("%w: package %d is not where its slot says", errNDB, index)
		}
		length := int64(binary.LittleEndian.Uint32(blob[12:]))
		if length > int64(len(blob))-ndbBlobHead {
			return fmt.Errorf("%w: package %d is cut short", errNDB, index)
		}
		if err := each(blob[ndbBlobHead : ndbBlobHead+length]); err != nil {
			return err
		}
	}
	return nil
}
