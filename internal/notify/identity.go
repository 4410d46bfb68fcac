package notify

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// defaultAccount is the account that scripts run as if it exists and no other is configured.
const defaultAccount = "keepalived_script"

// Identity is the user and groups that a script runs as.
type Identity struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups
}

// Self returns the identity of this process.
func Self() Identity { return Identity{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())} }

// Root tells whether a script of this identity has root's rights by user or by group.
func (id Identity) Root() bool { return id.UID == 0 || id.GID == 0 }

// Defaults is whom scripts run as whose line names nobody (script_user), and what holds for all of them.
type Defaults struct {
	User, Group   string // empty: DefaultIdentity
	Security      bool   // enable_script_security
	Supplementary bool   // set_supplementary_groups
}

// Identity looks up whom a script runs as. An empty user is the default one. Errors are those of DefaultIdentity and
// LookupIdentity.
func (d Defaults) Identity(user, group string) (Identity, error) {
	if user == "" {
		user, group = d.User, d.Group
	}
	if user == "" {
		return DefaultIdentity(d.Security)
	}
	return LookupIdentity(user, group, d.Supplementary)
}

// LookupIdentity finds a user and a group by name or number. The group may be written with a leading colon; without one
// it is the user's primary group. With supplementary set the user's other groups are included
// (set_supplementary_groups).
func LookupIdentity(userName, groupName string, supplementary bool) (Identity, error) {
	account, err := user.Lookup(userName)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		if byNumber, numberErr := user.LookupId(userName); numberErr == nil {
			account, err = byNumber, nil
		}
	}
	if err != nil {
		return Identity{}, fmt.Errorf("look up script user %q: %w", userName, err)
	}
	id, err := identityOf(account, supplementary)
	if err != nil {
		return Identity{}, fmt.Errorf("look up script user %q: %w", userName, err)
	}
	groupName = strings.TrimPrefix(groupName, ":")
	if groupName == "" {
		return id, nil
	}
	group, err := user.LookupGroup(groupName)
	var unknownGroup user.UnknownGroupError
	if errors.As(err, &unknownGroup) {
		if byNumber, numberErr := user.LookupGroupId(groupName); numberErr == nil {
			group, err = byNumber, nil
		}
	}
	if err != nil {
		return Identity{}, fmt.Errorf("look up script group %q: %w", groupName, err)
	}
	if id.GID, err = number(group.Gid); err != nil {
		return Identity{}, fmt.Errorf("look up script group %q: %w", groupName, err)
	}
	return id, nil
}

func identityOf(account *user.User, supplementary bool) (id Identity, err error) {
	if id.UID, err = number(account.Uid); err != nil {
		return Identity{}, err
	}
	if id.GID, err = number(account.Gid); err != nil {
		return Identity{}, err
	}
	if !supplementary {
		return id, nil
	}
	groups, err := account.GroupIds()
	if err != nil {
		return Identity{}, err
	}
	for _, text := range groups {
		gid, err := number(text)
		if err != nil {
			return Identity{}, err
		}
		id.Groups = append(id.Groups, gid)
	}
	return id, nil
}

func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err
}

// DefaultIdentity returns the identity of scripts for which none is configured: the account keepalived_script if it
// exists, else that of this process. With security set (enable_script_security) a missing account is an error, and
// scripts without a user of their own must not run.
func DefaultIdentity(security bool) (Identity, error) {
	id, err := LookupIdentity(defaultAccount, "", false)
	if err != nil && !security {
		return Self(), nil
	}
	return id, err
}

// credential returns what the kernel is told; nil if the script runs as this process does.
func (id Identity) credential() *syscall.Credential {
	self := Self()
	if id.UID == self.UID && id.GID == self.GID && self.UID != 0 {
		return nil // without root's rights groups cannot be set, and need not be
	}
	return &syscall.Credential{Uid: id.UID, Gid: id.GID, Groups: id.Groups}
}

// may tells whether the identity has a permission on a file, given as the bit of "others" (1 execute, 2 write, 4 read).
func (id Identity) may(st *syscall.Stat_t, permission uint32) bool {
	switch {
	case id.UID == 0:
		return permission != 1 || st.Mode&syscall.S_IFMT == syscall.S_IFDIR || st.Mode&0o111 != 0
	case id.UID == st.Uid:
		return st.Mode>>6&permission != 0
	case id.member(st.Gid):
		return st.Mode>>3&permission != 0
	}
	return st.Mode&permission != 0
}

func (id Identity) member(gid uint32) bool {
	if id.GID == gid {
		return true
	}
	for _, g := range id.Groups {
		if g == gid {
			return true
		}
	}
	return false
}
