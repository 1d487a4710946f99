package ext4

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// xattrs returns the extended attributes of an inode: those behind its fields and those of its block.
func (v *reading) xattrs(p []byte, extra int, path string) ([]layers.Xattr, error) {
	le := binary.LittleEndian
	var list []layers.Xattr
	if begin := 128 + extra; len(p) >= begin+8 && extra > 0 && le.Uint32(p[begin:]) == xattrMagic {
		var err error
		if list, err = v.attributes(p[begin+4:], 0, path); err != nil {
			return nil, err
		}
	}
	if number := uint64(le.Uint32(p[inACL:])) | uint64(le.Uint16(p[inACLHi:]))<<32; number != 0 {
		shared, ok := v.blocks[number]
		if !ok {
			block := make([]byte, v.sb.blockSize)
			if err := v.block(number, block); err != nil {
				return nil, err
			}
			if le.Uint32(block) != xattrMagic {
				return nil, &DamagedError{Path: path, Reason: "its block of extended attributes is damaged"}
			}
			var err error
			if shared, err = v.attributes(block, xattrHeaderSize, path); err != nil {
				return nil, err
			}
			v.blocks[number] = shared
		}
		list = append(list, shared...)
	}
	slices.SortFunc(list, func(a, b layers.Xattr) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(list); i++ {
		if list[i].Name == list[i-1].Name {
			return nil, &DamagedError{Path: path, Reason: fmt.Sprintf("it has the extended attribute %q twice", list[i].Name)}
		}
	}
	return list, nil
}

// attributes reads the list of entries that begins at first in area; places of values count from the start of the area.
func (v *reading) attributes(area []byte, first int, path string) ([]layers.Xattr, error) {
	le := binary.LittleEndian
	var list []layers.Xattr
	for at := first; at+4 <= len(area) && le.Uint32(area[at:]) != 0; {
		if at+xattrEntrySize > len(area) {
			return nil, &DamagedError{Path: path, Reason: "its extended attributes are damaged"}
		}
		entry := area[at:]
		name, index := int(entry[0]), entry[1]
		offset, inode, size := int(le.Uint16(entry[2:])), le.Uint32(entry[4:]), int64(le.Uint32(entry[8:]))
		if inode != 0 {
			return nil, &DamagedError{Path: path, Reason: "extended attributes that lie in inodes of their own (feature ea_inode) can't be read here"}
		}
		if at+xattrEntrySize+name > len(area) || size > 0 && int64(offset)+size > int64(len(area)) {
			return nil, &DamagedError{Path: path, Reason: "its extended attributes are damaged"}
		}
		value := ""
		if size > 0 {
			value = string(area[offset : int64(offset)+size])
		}
		x, err := readAttribute(index, string(entry[xattrEntrySize:xattrEntrySize+name]), value)
		if err != nil {
			return nil, &DamagedError{Path: path, Reason: err.Error()}
		}
		if v.metadata += int64(len(x.Name) + len(x.Value)); v.metadata > maxReadMetadata {
			return nil, &DamagedError{Path: path, Reason: "there are more extended attributes than a root tree has"}
		}
		list = append(list, x)
		at += xattrEntrySize + pad4(name)
	}
	return list, nil
}

// readAttribute is the opposite of [newAttribute].
func readAttribute(index uint8, name, value string) (layers.Xattr, error) {
	for _, p := range xattrPrefixes() {
		if p.index != index {
			continue
		}
		if p.exact {
			list, err := memoryACL(value)
			return layers.Xattr{Name: p.prefix, Value: list}, err
		}
		if name == "" || strings.Contains(name, "\x00") {
			return layers.Xattr{}, fmt.Errorf("it has an extended attribute with the impossible name %q", name)
		}
		return layers.Xattr{Name: p.prefix + name, Value: value}, nil
	}
	return layers.Xattr{}, fmt.Errorf("it has an extended attribute of the unknown kind %d", index)
}

// memoryACL is the opposite of [diskACL].
func memoryACL(disk string) (string, error) {
	p := []byte(disk)
	if len(p) < 4 || binary.LittleEndian.Uint32(p) != aclDiskVersion {
		return "", errNotACL
	}
	list := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for p = p[4:]; len(p) > 0; {
		if len(p) < 4 {
			return "", errNotACL
		}
		list = append(list, p[:4]...) // tag and permissions
		tag := binary.LittleEndian.Uint16(p)
		p = p[4:]
		switch tag {
		case aclUser, aclGroup:
			if len(p) < 4 {
				return "", errNotACL
			}
			list, p = append(list, p[:4]...), p[4:]
		case aclUserObj, aclGroupObj, aclMask, aclOther:
			list = binary.LittleEndian.AppendUint32(list, 0xFFFFFFFF) // no id
		default:
			return "", errNotACL
		}
	}
	return string(list), nil
}
