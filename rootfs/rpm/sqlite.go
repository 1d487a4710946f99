package rpm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The format of SQLite's files: https://www.sqlite.org/fileformat2.html. Read here are tables with a row id, from a file and its write-ahead log.

const sqliteMagic = "SQLite format 3\x00"

// The types of pages of a table's tree (section 1.6).
const (
	interiorTable = 0x05
	leafTable     = 0x0d
)

var errSQLite = errors.New("the SQLite database is damaged")

// sqliteFile is an SQLite database.
type sqliteFile struct {
	data     []byte
	size     int            // of a page, in bytes
	usable   int            // bytes of a page without those reserved at its end
	log      map[int][]byte // pages that the write-ahead log has newer, by number
	visited  int            // pages, against loops
	pageMost int            // number of the last page
}

// readSQLite calls each with the header of every package. log is the write-ahead log beside the file, nil if there is none.
func readSQLite(data, log []byte, each func(blob []byte) error) error {
	if len(data) < 100 || string(data[:16]) != sqliteMagic {
		return fmt.Errorf("%w: it has no header", errSQLite)
	}
	f := &sqliteFile{data: data, size: int(binary.BigEndian.Uint16(data[16:]))}
	if f.size == 1 {
		f.size = 65536
	}
	f.usable = f.size - int(data[20])
	if f.size < 512 || f.size&(f.size-1) != 0 || f.usable < 480 {
		return fmt.Errorf("%w: it tells of pages of %d bytes", errSQLite, f.size)
	}
	f.readLog(log)
	f.pageMost = len(data) / f.size
	for n := range f.log {
		f.pageMost = max(f.pageMost, n)
	}
	root := 0
	err := f.rows(1, func(record []column) error {
		// sqlite_schema: type, name, tbl_name, rootpage, sql (section 2.6)
		if len(record) >= 4 && string(record[0].blob) == "table" && string(record[1].blob) == "Packages" {
			root = int(record[3].number)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root == 0 {
		return fmt.Errorf("%w: it has no table Packages", errSQLite)
	}
	return f.rows(root, func(record []column) error {
		// hnum INTEGER PRIMARY KEY, blob BLOB
		if len(record) < 2 {
			return fmt.Errorf("%w: a row of Packages has %d columns", errSQLite, len(record))
		}
		return each(record[1].blob)
	})
}

// readLog finds the newest committed version of each page in a write-ahead log (section 4).
func (f *sqliteFile) readLog(log []byte) {
	f.log = map[int][]byte{}
	const headerSize, frameHeader = 32, 24
	if len(log) < headerSize || int(binary.BigEndian.Uint32(log[8:])) != f.size {
		return
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch binary.BigEndian.Uint32(log) {
	case 0x377f0682:
	case 0x377f0683:
		order = binary.BigEndian
	default:
		return
	}
	salt := string(log[16:24])
	sum := walSum{order: order}
	sum.add(log[:24])
	if !sum.is(log[24:]) {
		return
	}
	pending := map[int][]byte{}
	for rest := log[headerSize:]; len(rest) >= frameHeader+f.size; rest = rest[frameHeader+f.size:] {
		sum.add(rest[:8])
		sum.add(rest[frameHeader : frameHeader+f.size])
		if string(rest[8:16]) != salt || !sum.is(rest[16:]) {
			return // what follows is left over from an earlier use of the file
		}
		pending[int(binary.BigEndian.Uint32(rest))] = rest[frameHeader : frameHeader+f.size]
		if binary.BigEndian.Uint32(rest[4:]) != 0 { // the transaction is complete
			for number, page := range pending {
				f.log[number] = page
			}
			clear(pending)
		}
	}
}

// walSum is the check sum of a write-ahead log (section 4.2).
type walSum struct {
	order  binary.ByteOrder
	s0, s1 uint32
}

func (s *walSum) add(data []byte) {
	for ; len(data) >= 8; data = data[8:] {
		s.s0 += s.order.Uint32(data) + s.s1
		s.s1 += s.order.Uint32(data[4:]) + s.s0
	}
}

func (s *walSum) is(data []byte) bool {
	return binary.BigEndian.Uint32(data) == s.s0 && binary.BigEndian.Uint32(data[4:]) == s.s1
}

// page returns one page. The first has number 1.
func (f *sqliteFile) page(number int) ([]byte, error) {
	if f.visited++; f.visited > 2*f.pageMost+8 { // the schema's pages and the table's, each once
		return nil, fmt.Errorf("%w: its pages form a loop", errSQLite)
	}
	if page, ok := f.log[number]; ok {
		return page, nil
	}
	if number < 1 || number*f.size > len(f.data) {
		return nil, fmt.Errorf("%w: page %d is not there", errSQLite, number)
	}
	return f.data[(number-1)*f.size : number*f.size], nil
}

// rows calls fn with each row of the table whose tree has its root in this page, in order of the row ids.
func (f *sqliteFile) rows(root int, fn func([]column) error) error {
	page, err := f.page(root)
	if err != nil {
		return err
	}
	head := page
	if root == 1 {
		head = page[100:] // after the file's header
	}
	cells := int(binary.BigEndian.Uint16(head[3:]))
	pointers := head[8:]
	if head[0] == interiorTable {
		pointers = head[12:]
	}
	if 2*cells > len(pointers) {
		return fmt.Errorf("%w: page %d tells of %d cells", errSQLite, root, cells)
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(pointers[2*i:]))
		if at > f.usable-4 {
			return fmt.Errorf("%w: a cell of page %d lies outside of it", errSQLite, root)
		}
		cell := page[at:f.usable]
		switch head[0] {
		case interiorTable:
			err = f.rows(int(binary.BigEndian.Uint32(cell)), fn)
		case leafTable:
			err = f.row(cell, fn)
		default:
			err = fmt.Errorf("%w: page %d is of type %d", errSQLite, root, head[0])
		}
		if err != nil {
			return err
		}
	}
	if head[0] == interiorTable {
		return f.rows(int(binary.BigEndian.Uint32(head[8:])), fn)
	}
	return nil
}

// row reads one cell of a leaf and, where its payload is long, the pages that it goes on in (section 1.6).
func (f *sqliteFile) row(cell []byte, fn func([]column) error) error {
	length, rest, ok := varint(cell)
	if ok {
		_, rest, ok = varint(rest) // the row id
	}
	if !ok || length > uint64(f.pageMost)*uint64(f.size) {
		return fmt.Errorf("%w: a cell is cut short", errSQLite)
	}
	size := int(length)
	local := size
	if most := f.usable - 35; size > most {
		least := (f.usable-12)*32/255 - 23
		if local = least + (size-least)%(f.usable-4); local > most {
			local = least
		}
	}
	if local > len(rest) || local < size && local+4 > len(rest) {
		return fmt.Errorf("%w: a cell is cut short", errSQLite)
	}
	payload := rest[:local]
	if local < size {
		payload = append(make([]byte, 0, size), payload...)
		for next := binary.BigEndian.Uint32(rest[local:]); len(payload) < size; {
			page, err := f.page(int(next))
			if err != nil {
				return err
			}
			payload = append(payload, page[4:min(f.usable, 4+size-len(payload))]...)
			next = binary.BigEndian.Uint32(page)
		}
	}
	record, err := parseRecord(payload)
	if err != nil {
		return err
	}
	return fn(record)
}

// column is one value of a row: a number, or the bytes of a text or blob.
type column struct {
	number int64
	blob   []byte
}

// parseRecord reads a row (section 2.1).
func parseRecord(payload []byte) ([]column, error) {
	length, types, ok := varint(payload)
	if !ok || length > uint64(len(payload)) || int(length) < len(payload)-len(types) {
		return nil, fmt.Errorf("%w: a row is cut short", errSQLite)
	}
	body := payload[length:]
	types = types[:int(length)-(len(payload)-len(types))]
	var record []column
	for len(types) > 0 {
		var kind uint64
		if kind, types, ok = varint(types); !ok {
			return nil, fmt.Errorf("%w: a row is cut short", errSQLite)
		}
		var c column
		var size uint64
		switch {
		case kind >= 12:
			size = (kind - 12) / 2
		case kind <= 4:
			size = kind
		case kind == 5:
			size = 6
		case kind == 6, kind == 7:
			size = 8
		default: // 8 and 9 are the constants 0 and 1
			c.number = int64(kind - 8)
		}
		if size > uint64(len(body)) {
			return nil, fmt.Errorf("%w: a row is cut short", errSQLite)
		}
		if kind >= 12 {
			c.blob = body[:size]
		} else if size > 0 {
			c.number = int64(int8(body[0]))
			for _, b := range body[1:size] {
				c.number = c.number<<8 | int64(b)
			}
		}
		body = body[size:]
		record = append(record, c)
	}
	return record, nil
}

// varint reads an integer of up to nine bytes (section 1.6).
func varint(data []byte) (value uint64, rest []byte, ok bool) {
	for i, b := range data[:min(9, len(data))] {
		if i == 8 {
			return value<<8 | uint64(b), data[9:], true
		}
		value = value<<7 | uint64(b&0x7f)
		if b < 0x80 {
			return value, data[i+1:], true
		}
	}
	return 0, nil, false
}
