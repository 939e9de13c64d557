/** Where the control API of a runtime is, in its store's directory: for those who serve it, and those who look for it. */
export const CONTROL_SOCKET = 'control.sock';
