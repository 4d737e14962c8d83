/** Why a worker cannot start, in words for whoever started it; where in the code it was found does not matter. */
export class StartError extends Error {}
