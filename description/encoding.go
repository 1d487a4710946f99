package description

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// toUTF8 returns a file in UTF-8 without a byte order mark. Known are UTF-8,
// US-ASCII, ISO-8859-1 and UTF-16 of both byte orders.
func toUTF8(file string, data []byte) ([]byte, error) {
	fail := func(text, hint string) error {
		return problem(start(file), hint, "%s", text)
	}
	if len(data) > maxFileSize {
		return nil, fail(fmt.Sprintf("the file is larger than %d MiB", maxFileSize>>20), "")
	}
	wide := false
	if order := utf16Order(data); order != nil {
		if len(data)%2 != 0 {
			return nil, fail("the file is not valid UTF-16: it ends in the middle of a character", "save it as UTF-8")
		}
		data, wide = fromUTF16(data, order), true
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch enc := declaredEncoding(data); {
	case enc == "", enc == "utf-8", enc == "utf8", enc == "us-ascii", enc == "ascii":
	case wide && (enc == "utf-16" || enc == "utf-16le" || enc == "utf-16be"):
	case enc == "iso-8859-1", enc == "latin1", enc == "latin-1":
		runes := make([]rune, len(data))
		for i, c := range data {
			runes[i] = rune(c)
		}
		return []byte(string(runes)), nil
	default:
		return nil, fail(fmt.Sprintf("encoding %q is not supported", enc), "save the file as UTF-8")
	}
	if !utf8.Valid(data) {
		return nil, fail("the file is not valid UTF-8", "save it as UTF-8, or declare its encoding in the first line")
	}
	return data, nil
}

// utf16Order returns the byte order of a file in UTF-16, by its byte order
// mark or by its first character, which is ASCII; nil when it is no UTF-16.
func utf16Order(data []byte) binary.ByteOrder {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")), len(data) > 1 && data[0] == '<' && data[1] == 0:
		return binary.LittleEndian
	case bytes.HasPrefix(data, []byte("\xfe\xff")), len(data) > 1 && data[0] == 0 && data[1] == '<':
		return binary.BigEndian
	}
	return nil
}

// fromUTF16 returns the text of a file in UTF-16 with its byte order mark, if
// it has one, in UTF-8.
func fromUTF16(data []byte, order binary.ByteOrder) []byte {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	return []byte(string(utf16.Decode(units)))
}

// declaredEncoding returns the encoding of the XML declaration in lower case.
func declaredEncoding(data []byte) string {
	if !bytes.HasPrefix(data, []byte("<?xml")) {
		return ""
	}
	end := bytes.Index(data, []byte("?>"))
	if end < 0 {
		return ""
	}
	decl := string(data[:end])
	i := strings.Index(decl, "encoding")
	if i < 0 {
		return ""
	}
	quoted := strings.TrimLeft(decl[i+len("encoding"):], " \t\r\n=")
	if quoted == "" || (quoted[0] != '"' && quoted[0] != '\'') {
		return ""
	}
	value, _, _ := strings.Cut(quoted[1:], quoted[:1])
	return strings.ToLower(value)
}
