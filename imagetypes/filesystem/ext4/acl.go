package ext4

import (
	"encoding/binary"
	"errors"
)

// POSIX access control lists have one form as the value of an extended attribute (acl(5) as in linux/posix_acl_xattr.h: version 2, every
// entry with an id) and another one on ext's disk (version 1, ids only where they mean something).
const (
	aclVersion     = 2
	aclDiskVersion = 1

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

var errNotACL = errors.New("it is not a POSIX access control list")

// diskACL turns the value of system.posix_acl_access or system.posix_acl_default into ext's own form.
func diskACL(value string) ([]byte, error) {
	p := []byte(value)
	if len(p) < 4 || (len(p)-4)%8 != 0 || binary.LittleEndian.Uint32(p) != aclVersion {
		return nil, errNotACL
	}
	disk := binary.LittleEndian.AppendUint32(nil, aclDiskVersion)
	for p = p[4:]; len(p) > 0; p = p[8:] {
		disk = append(disk, p[:4]...) // tag and permissions
		switch binary.LittleEndian.Uint16(p) {
		case aclUser, aclGroup:
			disk = append(disk, p[4:8]...)
		case aclUserObj, aclGroupObj, aclMask, aclOther:
		default:
			return nil, errNotACL
		}
	}
	return disk, nil
}
