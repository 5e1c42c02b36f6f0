package etcdcall

import (
	"context"
	"errors"

	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// auth is the clientv3.Auth of this package. Its writes set or unset something
// and may be sent twice, except the change of a password.
type auth struct {
	tokens           *tokens
	enable           bound[pb.AuthEnableRequest, pb.AuthEnableResponse]
	disable          bound[pb.AuthDisableRequest, pb.AuthDisableResponse]
	status           bound[pb.AuthStatusRequest, pb.AuthStatusResponse]
	userAdd          bound[pb.AuthUserAddRequest, pb.AuthUserAddResponse]
	userGet          bound[pb.AuthUserGetRequest, pb.AuthUserGetResponse]
	userList         bound[pb.AuthUserListRequest, pb.AuthUserListResponse]
	userDelete       bound[pb.AuthUserDeleteRequest, pb.AuthUserDeleteResponse]
	changePassword   bound[pb.AuthUserChangePasswordRequest, pb.AuthUserChangePasswordResponse]
	grantRole        bound[pb.AuthUserGrantRoleRequest, pb.AuthUserGrantRoleResponse]
	revokeRole       bound[pb.AuthUserRevokeRoleRequest, pb.AuthUserRevokeRoleResponse]
	roleAdd          bound[pb.AuthRoleAddRequest, pb.AuthRoleAddResponse]
	roleGet          bound[pb.AuthRoleGetRequest, pb.AuthRoleGetResponse]
	roleList         bound[pb.AuthRoleListRequest, pb.AuthRoleListResponse]
	roleDelete       bound[pb.AuthRoleDeleteRequest, pb.AuthRoleDeleteResponse]
	grantPermission  bound[pb.AuthRoleGrantPermissionRequest, pb.AuthRoleGrantPermissionResponse]
	revokePermission bound[pb.AuthRoleRevokePermissionRequest, pb.AuthRoleRevokePermissionResponse]
}

func newAuth(p *policy, conn grpc.ClientConnInterface) *auth {
	calls := newAuthService(p, conn)
	return &auth{
		tokens:           newTokens(p, pb.NewAuthClient(conn)),
		enable:           bindMethod(&calls, pb.Auth_AuthEnable_FullMethodName, (*etcdstub.AuthClient).AuthEnable),
		disable:          bindMethod(&calls, pb.Auth_AuthDisable_FullMethodName, (*etcdstub.AuthClient).AuthDisable),
		status:           bindMethod(&calls, pb.Auth_AuthStatus_FullMethodName, (*etcdstub.AuthClient).AuthStatus),
		userAdd:          bindMethod(&calls, pb.Auth_UserAdd_FullMethodName, (*etcdstub.AuthClient).UserAdd),
		userGet:          bindMethod(&calls, pb.Auth_UserGet_FullMethodName, (*etcdstub.AuthClient).UserGet),
		userList:         bindMethod(&calls, pb.Auth_UserList_FullMethodName, (*etcdstub.AuthClient).UserList),
		userDelete:       bindMethod(&calls, pb.Auth_UserDelete_FullMethodName, (*etcdstub.AuthClient).UserDelete),
		changePassword:   bindMethod(&calls, pb.Auth_UserChangePassword_FullMethodName, (*etcdstub.AuthClient).UserChangePassword),
		grantRole:        bindMethod(&calls, pb.Auth_UserGrantRole_FullMethodName, (*etcdstub.AuthClient).UserGrantRole),
		revokeRole:       bindMethod(&calls, pb.Auth_UserRevokeRole_FullMethodName, (*etcdstub.AuthClient).UserRevokeRole),
		roleAdd:          bindMethod(&calls, pb.Auth_RoleAdd_FullMethodName, (*etcdstub.AuthClient).RoleAdd),
		roleGet:          bindMethod(&calls, pb.Auth_RoleGet_FullMethodName, (*etcdstub.AuthClient).RoleGet),
		roleList:         bindMethod(&calls, pb.Auth_RoleList_FullMethodName, (*etcdstub.AuthClient).RoleList),
		roleDelete:       bindMethod(&calls, pb.Auth_RoleDelete_FullMethodName, (*etcdstub.AuthClient).RoleDelete),
		grantPermission:  bindMethod(&calls, pb.Auth_RoleGrantPermission_FullMethodName, (*etcdstub.AuthClient).RoleGrantPermission),
		revokePermission: bindMethod(&calls, pb.Auth_RoleRevokePermission_FullMethodName, (*etcdstub.AuthClient).RoleRevokePermission),
	}
}

// Authenticate implements clientv3.Auth. It is not retried: clientv3 calls it in
// the middle of an attempt of another call, which is.
func (a *auth) Authenticate(ctx context.Context, name, password string) (*clientv3.AuthenticateResponse, error) {
	resp, err := a.tokens.fetch(ctx, name, password)
	return (*clientv3.AuthenticateResponse)(resp), readError(err)
}

// AuthEnable implements clientv3.Auth.
func (a *auth) AuthEnable(ctx context.Context) (*clientv3.AuthEnableResponse, error) {
	resp, err := a.enable.do(ctx, &pb.AuthEnableRequest{})
	return (*clientv3.AuthEnableResponse)(resp), err
}

// AuthDisable implements clientv3.Auth.
func (a *auth) AuthDisable(ctx context.Context) (*clientv3.AuthDisableResponse, error) {
	resp, err := a.disable.do(ctx, &pb.AuthDisableRequest{})
	return (*clientv3.AuthDisableResponse)(resp), err
}

// AuthStatus implements clientv3.Auth.
func (a *auth) AuthStatus(ctx context.Context) (*clientv3.AuthStatusResponse, error) {
	resp, err := a.status.do(ctx, &pb.AuthStatusRequest{})
	return (*clientv3.AuthStatusResponse)(resp), err
}

// UserAdd implements clientv3.Auth.
func (a *auth) UserAdd(ctx context.Context, name, password string) (*clientv3.AuthUserAddResponse, error) {
	return a.UserAddWithOptions(ctx, name, password, &clientv3.UserAddOptions{})
}

// UserAddWithOptions implements clientv3.Auth. That the user exists already,
// after an attempt that may have added it, is a success if the user has no role
// yet.
func (a *auth) UserAddWithOptions(ctx context.Context, name, password string, opt *clientv3.UserAddOptions) (*clientv3.AuthUserAddResponse, error) {
	req := &pb.AuthUserAddRequest{Name: name, Password: password, Options: (*authpb.UserAddOptions)(opt)}
	resp, err := a.userAdd.twice(ctx, req, func(refusal error) (*pb.AuthUserAddResponse, bool) {
		if !errors.Is(refusal, rpctypes.ErrUserAlreadyExist) {
			return nil, false
		}
		user, err := a.userGet.do(ctx, &pb.AuthUserGetRequest{Name: name})
		return &pb.AuthUserAddResponse{Header: user.GetHeader()}, err == nil && len(user.GetRoles()) == 0
	})
	return (*clientv3.AuthUserAddResponse)(resp), err
}

// UserDelete implements clientv3.Auth.
func (a *auth) UserDelete(ctx context.Context, name string) (*clientv3.AuthUserDeleteResponse, error) {
	done := doneOn(rpctypes.ErrUserNotFound, &pb.AuthUserDeleteResponse{Header: &pb.ResponseHeader{}})
	resp, err := a.userDelete.twice(ctx, &pb.AuthUserDeleteRequest{Name: name}, done)
	return (*clientv3.AuthUserDeleteResponse)(resp), err
}

// UserChangePassword implements clientv3.Auth. It is a blind write.
func (a *auth) UserChangePassword(ctx context.Context, name, password string) (*clientv3.AuthUserChangePasswordResponse, error) {
	resp, err := a.changePassword.do(ctx, &pb.AuthUserChangePasswordRequest{Name: name, Password: password})
	return (*clientv3.AuthUserChangePasswordResponse)(resp), err
}

// UserGrantRole implements clientv3.Auth.
func (a *auth) UserGrantRole(ctx context.Context, user, role string) (*clientv3.AuthUserGrantRoleResponse, error) {
	resp, err := a.grantRole.do(ctx, &pb.AuthUserGrantRoleRequest{User: user, Role: role})
	return (*clientv3.AuthUserGrantRoleResponse)(resp), err
}

// UserGet implements clientv3.Auth.
func (a *auth) UserGet(ctx context.Context, name string) (*clientv3.AuthUserGetResponse, error) {
	resp, err := a.userGet.do(ctx, &pb.AuthUserGetRequest{Name: name})
	return (*clientv3.AuthUserGetResponse)(resp), err
}

// UserList implements clientv3.Auth.
func (a *auth) UserList(ctx context.Context) (*clientv3.AuthUserListResponse, error) {
	resp, err := a.userList.do(ctx, &pb.AuthUserListRequest{})
	return (*clientv3.AuthUserListResponse)(resp), err
}

// UserRevokeRole implements clientv3.Auth.
func (a *auth) UserRevokeRole(ctx context.Context, name, role string) (*clientv3.AuthUserRevokeRoleResponse, error) {
	done := doneOn(rpctypes.ErrRoleNotGranted, &pb.AuthUserRevokeRoleResponse{Header: &pb.ResponseHeader{}})
	resp, err := a.revokeRole.twice(ctx, &pb.AuthUserRevokeRoleRequest{Name: name, Role: role}, done)
	return (*clientv3.AuthUserRevokeRoleResponse)(resp), err
}

// RoleAdd implements clientv3.Auth. That the role exists already, after an
// attempt that may have added it, is a success if it has no permission yet.
func (a *auth) RoleAdd(ctx context.Context, name string) (*clientv3.AuthRoleAddResponse, error) {
	resp, err := a.roleAdd.twice(ctx, &pb.AuthRoleAddRequest{Name: name}, func(refusal error) (*pb.AuthRoleAddResponse, bool) {
		if !errors.Is(refusal, rpctypes.ErrRoleAlreadyExist) {
			return nil, false
		}
		role, err := a.roleGet.do(ctx, &pb.AuthRoleGetRequest{Role: name})
		return &pb.AuthRoleAddResponse{Header: role.GetHeader()}, err == nil && len(role.GetPerm()) == 0
	})
	return (*clientv3.AuthRoleAddResponse)(resp), err
}

// RoleGrantPermission implements clientv3.Auth.
func (a *auth) RoleGrantPermission(ctx context.Context, name, key, rangeEnd string, permType clientv3.PermissionType) (*clientv3.AuthRoleGrantPermissionResponse, error) {
	resp, err := a.grantPermission.do(ctx, &pb.AuthRoleGrantPermissionRequest{Name: name, Perm: &authpb.Permission{
		Key: []byte(key), RangeEnd: []byte(rangeEnd), PermType: authpb.Permission_Type(permType),
	}})
	return (*clientv3.AuthRoleGrantPermissionResponse)(resp), err
}

// RoleGet implements clientv3.Auth.
func (a *auth) RoleGet(ctx context.Context, role string) (*clientv3.AuthRoleGetResponse, error) {
	resp, err := a.roleGet.do(ctx, &pb.AuthRoleGetRequest{Role: role})
	return (*clientv3.AuthRoleGetResponse)(resp), err
}

// RoleList implements clientv3.Auth.
func (a *auth) RoleList(ctx context.Context) (*clientv3.AuthRoleListResponse, error) {
	resp, err := a.roleList.do(ctx, &pb.AuthRoleListRequest{})
	return (*clientv3.AuthRoleListResponse)(resp), err
}

// RoleRevokePermission implements clientv3.Auth.
func (a *auth) RoleRevokePermission(ctx context.Context, role, key, rangeEnd string) (*clientv3.AuthRoleRevokePermissionResponse, error) {
	done := doneOn(rpctypes.ErrPermissionNotGranted, &pb.AuthRoleRevokePermissionResponse{Header: &pb.ResponseHeader{}})
	req := &pb.AuthRoleRevokePermissionRequest{Role: role, Key: []byte(key), RangeEnd: []byte(rangeEnd)}
	resp, err := a.revokePermission.twice(ctx, req, done)
	return (*clientv3.AuthRoleRevokePermissionResponse)(resp), err
}

// RoleDelete implements clientv3.Auth.
func (a *auth) RoleDelete(ctx context.Context, role string) (*clientv3.AuthRoleDeleteResponse, error) {
	done := doneOn(rpctypes.ErrRoleNotFound, &pb.AuthRoleDeleteResponse{Header: &pb.ResponseHeader{}})
	resp, err := a.roleDelete.twice(ctx, &pb.AuthRoleDeleteRequest{Role: role}, done)
	return (*clientv3.AuthRoleDeleteResponse)(resp), err
}
