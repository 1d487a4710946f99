package rpm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The Berkeley database that rpm used before 4.16: Packages, a hash whose keys are package numbers and whose values are headers. Its format is
// described in Berkeley DB's dbinc/db_page.h. Numbers have the byte order of the machine that wrote it.
const (
	bdbHashMagic = 0x061561 // at byte 12 of the first page

	bdbHashUnsorted = 2  // type of a page, of older versions
	bdbOverflow     = 7  // page with a part of a long value
	bdbHash         = 13 // page with keys and values

	bdbPageHead = 26 // bytes before a page's index

	bdbKeyData = 1 // a key or value that lies in the page
	bdbOffPage = 3 // one that lies in overflow pages: type, 3 bytes unused, page number, length
)

var errBDB = errors.New("the package database Packages is damaged")

// isBDB tells the byte order of a Berkeley hash, nil if the file is none.
func isBDB(data []byte) binary.ByteOrder {
	if len(data) < 512 {
		return nil
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if order.Uint32(data[12:]) == bdbHashMagic {
			return order
		}
	}
	return nil
}

// readBDB calls each with the header of every package.
func readBDB(data []byte, each func(blob []byte) error) error {
	order := isBDB(data)
	if order == nil {
		return fmt.Errorf("%w: it has no header", errBDB)
	}
	size, last := int64(order.Uint32(data[20:])), int64(order.Uint32(data[32:]))
	if size < 512 || size > 65536 || size&(size-1) != 0 || data[24] != 0 || (last+1)*size > int64(len(data)) {
		return fmt.Errorf("%w: it tells of %d pages of %d bytes", errBDB, last+1, size)
	}
	f := bdbFile{data: data[:(last+1)*size], size: size, order: order}
	for n := int64(1); n <= last; n++ {
		page := f.data[n*size : (n+1)*size]
		if page[25] != bdbHash && page[25] != bdbHashUnsorted {
			continue
		}
		if err := f.values(page, each); err != nil {
			return err
		}
	}
	return nil
}

type bdbFile struct {
	data  []byte
	size  int64 // of a page
	order binary.ByteOrder
}

// values calls each with the headers in one page of the hash.
func (f bdbFile) values(page []byte, each func(blob []byte) error) error {
	count := int(f.order.Uint16(page[20:]))
	if bdbPageHead+2*count > len(page) {
		return fmt.Errorf("%w: a page tells of %d entries", errBDB, count)
	}
	// Keys and values take turns, from the end of the page on.
	end := len(page)
	for i := range count {
		start := int(f.order.Uint16(page[bdbPageHead+2*i:]))
		if start >= end || start < bdbPageHead {
			return fmt.Errorf("%w: an entry lies outside of its page", errBDB)
		}
		item := page[start:end]
		end = start
		var blob []byte
		switch {
		case i%2 == 0:
			continue
		case item[0] == bdbKeyData:
			blob = item[1:]
		case item[0] == bdbOffPage && len(item) >= 12:
			var err error
			if blob, err = f.overflow(int64(f.order.Uint32(item[4:])), int64(f.order.Uint32(item[8:]))); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: an entry is of type %d", errBDB, item[0])
		}
		if len(blob) <= 4 {
			continue // package 0 is the number that comes next
		}
		if err := each(blob); err != nil {
			return err
		}
	}
	return nil
}

// overflow gathers a long value.
func (f bdbFile) overflow(number, length int64) ([]byte, error) {
	if length > int64(len(f.data)) {
		return nil, fmt.Errorf("%w: a package is cut short", errBDB)
	}
	blob := make([]byte, 0, length)
	for int64(len(blob)) < length {
		if number <= 0 || (number+1)*f.size > int64(len(f.data)) {
			return nil, fmt.Errorf("%w: page %d is not there", errBDB, number)
		}
		page := f.data[number*f.size : (number+1)*f.size]
		used := int(f.order.Uint16(page[22:]))
		if page[25] != bdbOverflow || used == 0 || bdbPageHead+used > len(page) {
			return nil, fmt.Errorf("%w: page %d has no part of a package", errBDB, number)
		}
		blob = append(blob, page[bdbPageHead:bdbPageHead+used]...)
		number = int64(f.order.Uint32(page[16:]))
	}
	return blob[:length], nil
}
